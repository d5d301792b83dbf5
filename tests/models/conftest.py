"""Small random models of the real classes, saved as hub-style folders."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

os.environ.setdefault("HF_HUB_OFFLINE", "1")


torch.set_num_threads(1)  # these networks are too small to share among cores


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(0)
