"""LIME (arXiv 2510.18239) as a library: links for users, cached weights for items, one score for a pair.

Shape letters, everywhere in this package: B users in a batch, N history length, L links, C candidates,
d model width, H heads, F width of the scoring head, K list length, Q cuts of one training window,
S categorical slots and R numeric features of an item.
"""
