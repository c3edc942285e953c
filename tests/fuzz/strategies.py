"""Cases as hypothesis strategies: they shrink to one hazard, a small seed and double precision."""

import hypothesis.strategies as st

from fuzz.engine import Case


def cases(row):
    """Cases of a row: two in ten without a hazard, most with one, some with two or three."""
    pairs = st.sampled_from(row.pairs())
    chosen = st.lists(pairs, max_size=3, unique_by=lambda pair: pair[0]).map(tuple)
    some = st.one_of(st.just(()), pairs.map(lambda p: (p,)), pairs.map(lambda p: (p,)), chosen)
    return st.builds(
        Case,
        seed=st.integers(0, 2**31),
        dtype=st.sampled_from(["float64", "float32"]),
        hazards=some if row.pairs() else st.just(()),
    )
