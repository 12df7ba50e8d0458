"""Readers of hostile files fed with millions of damaged ones, led by what they cover; see `targets` for what must hold.

python3 -m tests.fuzz                 the full counts, continued where the last run of the same code ended
python3 -m tests.fuzz --again FILE    one input once more, with its traceback
"""
