"""What client and server do alike on the wire: tensors, coders, statuses, limits, measurement.

Nothing here knows a model. Data flows `torch.Tensor -> coder -> bytes -> messages` on one side
and back on the other.
"""
