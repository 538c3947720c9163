"""The error function, for libraries without one: within 2 ulp in float64, mostly correctly rounded in float32.

Rational approximations on four intervals, with the coefficients of FreeBSD's msun
(lib/msun/src/s_erf.c, Sun Microsystems 1993, "freely granted"), evaluated on whole arrays: every
interval is computed for every element and the right one selected. Used by exact GELU.
"""

from typing import Any

_TINY = (  # erf(x) = x + x * P(x²)/Q(x²) for |x| < 0.84375
    (1.28379167095512558561e-01, -3.25042107247001499370e-01, -2.84817495755985104766e-02,
     -5.77027029648944159157e-03, -2.37630166566501626084e-05),
    (1.0, 3.97917223959155352819e-01, 6.50222499887672944485e-02, 5.08130628187576562776e-03,
     1.32494738004321644526e-04, -3.96022827877536812320e-06),
)  # fmt: skip
_ERX = 8.45062911510467529297e-01
_NEAR = (  # erf(x) = ERX + P(|x| - 1)/Q(|x| - 1) for 0.84375 <= |x| < 1.25
    (-2.36211856075265944077e-03, 4.14856118683748331666e-01, -3.72207876035701323847e-01,
     3.18346619901161753674e-01, -1.10894694282396677476e-01, 3.54783043256182359371e-02,
     -2.16637559486879084300e-03),
    (1.0, 1.06420880400844228286e-01, 5.40397917702171048937e-01, 7.18286544141962662868e-02,
     1.26171219808761642112e-01, 1.36370839120290507362e-02, 1.19844998467991074170e-02),
)  # fmt: skip
_MIDDLE = (  # 1 - erf(x) = exp(-x² - 0.5625 + R(1/x²)/S(1/x²)) / x for 1.25 <= |x| < 1/0.35
    (-9.86494403484714822705e-03, -6.93858572707181764372e-01, -1.05586262253232909814e+01,
     -6.23753324503260060396e+01, -1.62396669462573470355e+02, -1.84605092906711035994e+02,
     -8.12874355063065934246e+01, -9.81432934416914548592e+00),
    (1.0, 1.96512716674392571292e+01, 1.37657754143519042600e+02, 4.34565877475229228821e+02,
     6.45387271733267880336e+02, 4.29008140027567833386e+02, 1.08635005541779435134e+02,
     6.57024977031928170135e+00, -6.04244152148580987438e-02),
)  # fmt: skip
_FAR = (  # the same form for 1/0.35 <= |x| < 6
    (-9.86494292470009928597e-03, -7.99283237680523006574e-01, -1.77579549177547519889e+01,
     -1.60636384855821916062e+02, -6.37566443368389627722e+02, -1.02509513161107724954e+03,
     -4.83519191608651397019e+02),
    (1.0, 3.03380607434824582924e+01, 3.25792512996573918826e+02, 1.53672958608443695994e+03,
     3.19985821950859553908e+03, 2.55305040643316442583e+03, 4.74528541206955367215e+02,
     -2.24409524465858183362e+01),
)  # fmt: skip


def _ratio(x: Any, coefficients: tuple[tuple[float, ...], tuple[float, ...]]) -> Any:
    """P(x) / Q(x) by Horner's rule, lowest coefficient first in both tuples."""
    values = []
    for polynomial in coefficients:
        value = polynomial[-1]
        for c in polynomial[-2::-1]:
            value = value * x + c
        values.append(value)
    return values[0] / values[1]


def erf(xp: Any, x: Any) -> Any:
    """erf(x) elementwise for a floating array, in x's dtype; computed in float64 throughout."""
    dtype, x = x.dtype, xp.astype(x, xp.float64)
    size = xp.abs(x)
    # Arguments are clamped to each interval, so that values outside cannot overflow.
    small = xp.where(size < 0.84375, x, 0.0)
    tiny = small + small * _ratio(small * small, _TINY)
    near = _ERX + _ratio(xp.where(size < 1.25, size, 1.0) - 1.0, _NEAR)
    # Above 6, erf is 1 to the last bit.
    tail = xp.where(size < 1.0, 1.0, xp.where(size > 6.0, 6.0, size))
    inverse = 1.0 / (tail * tail)
    exponent = xp.where(tail < 1.0 / 0.35, _ratio(inverse, _MIDDLE), _ratio(inverse, _FAR))
    # exp(-tail²) loses digits; -tail² = -head² + (head - tail)(head + tail), head² being exact.
    head = xp.astype(xp.astype(tail, xp.float32), xp.float64)
    rest = xp.exp((head - tail) * (head + tail) + exponent)
    far = 1.0 - xp.exp(-head * head - 0.5625) * rest / tail
    outside = xp.where(size < 1.25, near, far)
    signed = xp.where(x < 0.0, -outside, outside)
    return xp.astype(xp.where(size < 0.84375, tiny, xp.where(xp.isnan(x), x, signed)), dtype)
