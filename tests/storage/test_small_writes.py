from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from hypersend_storage.local_slot import WRITE_BYTES, in_small_writes

SIZES = st.one_of(
    st.integers(0, 100), st.sampled_from([WRITE_BYTES - 1, WRITE_BYTES, WRITE_BYTES + 1, 3 * WRITE_BYTES + 7]))


@given(st.lists(SIZES, max_size=8))
def test_small_writes_are_the_same_bytes_in_few_pieces(sizes: list[int]) -> None:
    parts = [bytes([n + 1]) * size for n, size in enumerate(sizes)]
    batches = [b"".join(batch) for batch in in_small_writes(parts)]
    assert b"".join(batches) == b"".join(parts)
    assert all(len(batch) == WRITE_BYTES for batch in batches[:-1])
    assert all(0 < len(batch) <= WRITE_BYTES for batch in batches)
