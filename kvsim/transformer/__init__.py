"""The mathematics, one part a file, read in this order: positions, attention, feed_forward, block,
decoder. Nothing here knows a cache's kind, a counter or an array library.

Arrays end in their dimensions; a trailing group of letters is one dimension each, and groups that
are parted by `_` are one dimension each, of merged letters: `x_TD` is [T, D], `x_T_HK` [T, H·K].

    T  new tokens of one step (of all sequences laid end to end, outside attention)
    S  visible positions, cached and new
    D  model width             F  feed-forward width
    H  query heads             G  key/value heads        R  query heads per key/value head, H = G·R
    K  head size               J  rotary pairs, K = 2·J
    V  vocabulary              N  sequences              1  one

A test runs a model whose sizes are different primes and holds every suffix against the shape it gets.
"""
