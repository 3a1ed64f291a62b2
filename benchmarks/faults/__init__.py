"""Faults: nights of a small platform are disturbed in every way there is, and what comes out is compared."""
