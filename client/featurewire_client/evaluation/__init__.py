"""A task's own metric over a folder of its ordinary layout, split beside unsplit.

metrics    answers and truth in, running sums, figures out
questions  ARC's questions      images  folders of images      prompts  texts to draw or embed
classes    names of folders in, class numbers out      lines  files of a record a line
tasks      one class a task: its files, its requests, its answers
evaluation the run
agreement  outputs of a tail against its outputs on uncoded features: no labels
"""
