"""A task's own metric over a folder of its ordinary layout, split beside unsplit.

metrics    answers and truth in, running sums, figures out
questions  ARC's questions      images  folders of labelled images      prompts  texts to draw
tasks      one class a task: its files, its requests, its answers
evaluation the run
"""
