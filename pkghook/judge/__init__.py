"""From facts to a judgement: what policy allows, what was done (the receipt), and whether it may pass.

Nothing here opens a module: the facts arrive as `model.Entry` and `findings.Finding`.
"""
