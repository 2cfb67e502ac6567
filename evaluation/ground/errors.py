"""Everything a user can cause derives from `EnsError`: one line on stderr, exit code 2."""


class EnsError(Exception):
    """What was met, what was expected, what to do: in one line, without a traceback."""


class BadSpec(EnsError):
    """A spec string that does not parse, or names something unknown."""


class BadData(EnsError):
    """Pictures, masks or an array file that cannot be used as they are."""


class BadLabels(EnsError):
    """Label maps with values or shapes that cannot be counted."""


class BadMaps(EnsError):
    """Probability maps that are not probabilities, or do not fit together."""


class BadRun(EnsError):
    """An experiment folder that lacks something, or holds something unexpected."""


class Leak(EnsError):
    """Something would learn from maps of pictures that a member was trained on."""
