"""What `data.augment` may be: `auto`, `none`, or an auto-augment policy in timm's notation.

timm ignores a part that it does not know, or fails at the first image; here it is refused. So
are numbers at which it would fail: `n` stays below the number of operations, and augmix's `a`, the
α of a Dirichlet distribution, is 0.1 to 999.
"""

_NUMBER = r"\d+(\.\d+)?"
_ALPHA = r"(0\.[1-9]\d*|[1-9]\d{0,2}(\.\d+)?)"
_SHARE = r"(0(\.\d+)?|1(\.0+)?)"
_DEVIATION = rf"mstd{_NUMBER}"
_RAND = (
    rf"rand(-(m\d{{1,2}}|n[1-9]|p{_SHARE}|{_DEVIATION}|mmax\d{{1,2}}|inc[01]|t(weights|3a|3aw)))*"
)
_AUTO = rf"(v0|v0r|original|originalr|3a)(-{_DEVIATION})?"
_AUGMIX = rf"augmix(-(m\d{{1,2}}|w[1-9]|d[1-9]|a{_ALPHA}|b[01]|{_DEVIATION}))*"

AUGMENT_PATTERN = rf"^(auto|none|{_RAND}|{_AUTO}|{_AUGMIX})$"
