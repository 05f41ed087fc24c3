"""What is right, by how much, and whether by luck: a room for each task, which imports only from those named before it.

scoring (one answer), statistics (surely or by luck), metrics (of the field), ladder (what was asked, shown and counted),
losses (where answers were lost), grounding (what answers stand on), judging (by a language model), benchmarks (general
ability), reporting (pages, comparisons, the gate).
"""
