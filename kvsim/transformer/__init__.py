"""The mathematics of the model, one part a file, to be read in this order: rotary, positions, attention,
feed_forward, block, decoder; then experts, latent and encoder. Nothing here depends on a kind of cache, a counter or
an array library.

Names of arrays end in their dimensions. In one group of letters each letter is a dimension: `x_TD` is [T, D]. Groups
separated by `_` are one dimension each, the product of their letters: `x_T_HK` is [T, H·K].

    T  new tokens of one step (of all sequences laid end to end, outside attention)
    S  visible positions, cached and new
    D  model width             F  feed-forward width     P  width of the embeddings (D except in OPT)
    H  query heads             G  key/value heads        X  heads of either kind
    K  head size               J  rotary pairs           R  query heads per key/value head, H = G·R
    V  vocabulary              E  experts                N  rows of a part's input
    1  one

A test runs models whose sizes are different primes and checks every suffix against the array's shape. If a dimension is
a sum (latent attention concatenates parts of a head), or any shape is accepted, the docstring says so.
"""
