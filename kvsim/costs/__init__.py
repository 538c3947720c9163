"""The costs of a model, exact and without data: sizes in `bytes`, products and traffic in `work`, what fits in `plans`.

`public` has catalogues of models and devices, `claims` compares published claims with exact values, `vectors` has
conformance vectors for other tools.
"""
