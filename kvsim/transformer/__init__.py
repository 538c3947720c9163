"""The mathematics, one part a file, read in this order: rotary, positions, attention, feed_forward, block,
decoder; then experts, latent and encoder. Nothing here knows a cache's kind, a counter or an array library.

Arrays end in their dimensions; a trailing group of letters is one dimension each, and groups that
are parted by `_` are one dimension each, of merged letters: `x_TD` is [T, D], `x_T_HK` [T, H·K].

    T  new tokens of one step (of all sequences laid end to end, outside attention)
    S  visible positions, cached and new
    D  model width             F  feed-forward width     P  width of the token vectors (D but in OPT)
    H  query heads             G  key/value heads        X  heads of either kind
    K  head size               J  rotary pairs           R  query heads per key/value head, H = G·R
    V  vocabulary              E  experts                N  rows that go through a part
    1  one

A test runs models whose sizes are different primes and holds every suffix against the shape it gets. Where a
dimension is a sum (latent attention joins parts of a head), or any shape will do, the docstring says so.
"""
