"""The keywords that an editor shows are an estimator's parameters, with their defaults, and all documented."""

import inspect
import re

import pytest

import mfspark
from mfspark import ALS, SGD, ParameterError
from mfspark.estimators.options import supports

ESTIMATORS = [
    mfspark.ALS,
    mfspark.SGD,
    mfspark.GradientDescent,
    mfspark.TruncatedSVD,
    mfspark.SVDPlusPlus,
    mfspark.BPMF,
]


def shown(kind):
    """Return the keywords of an estimator with the defaults that its signature shows."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(kind).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }


def documented(kind):
    """Return the parameters of a numpydoc section with the text of their defaults ("" where none is given)."""
    text = inspect.getdoc(kind)
    section = text[text.index("Parameters\n---") :].split("\n\n")[0]
    entries = {}
    for line in section.splitlines()[2:]:
        if line.startswith(" "):
            continue
        names, _, rest = line.partition(" : ")
        names = names.split(", ")
        given = rest.partition("default ")[2].split(", ") if "default " in rest else [""]
        given = given * len(names) if len(given) == 1 else given
        assert len(given) == len(names), line
        for name, default in zip(names, given, strict=True):
            assert name not in entries, f"{name} is documented twice"
            entries[name] = ("optional" if "optional" in rest else default) if rest else "as in ALS"
    return entries


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_signature_has_every_parameter_that_takes_effect_and_no_other(kind):
    assert set(shown(kind)) == {p.name for p in kind().params if supports(kind, p.name)}
    assert list(inspect.signature(kind.setParams).parameters) == list(inspect.signature(kind.__init__).parameters)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_signatures_defaults_are_the_parameters_and_nothing_is_set(kind):
    made = kind()
    assert {name: made.getOrDefault(name) for name in shown(kind)} == shown(kind)
    assert not [parameter.name for parameter in made.params if made.isSet(parameter)]
    for name in shown(kind):
        getter = getattr(made, f"get{name[0].upper()}{name[1:]}")
        assert getter() == shown(kind)[name]


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_the_docstring_names_every_keyword_and_its_default(kind):
    texts, first = documented(kind), documented(ALS)
    assert set(texts) == set(shown(kind))
    for name, default in shown(kind).items():
        text = first[name] if texts[name] == "as in ALS" else texts[name]
        if default is None:
            assert text == "optional" or text in shown(kind), (name, text)
        elif isinstance(default, str):
            assert text == f'"{default}"', name
        else:
            assert re.fullmatch(r"[-\w.]+", text) and type(default)(eval(text)) == default, (name, text)


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_what_is_given_is_set_even_where_it_is_the_default(kind):
    made = kind(rank=10, seed=None)
    assert made.isSet("rank") and not made.isSet("seed")
    assert made.setParams(rank=None).getRank() == 10 and not made.isSet("rank")
    copied = made.copy({made.maxIter: 3})
    assert copied.getMaxIter() == 3 and not made.isSet("maxIter")


def test_keywords_only_and_the_errors_of_others():
    with pytest.raises(TypeError, match=r"ALS takes keywords only, as in ALS\(rank=10\)"):
        ALS(10)
    with pytest.raises(ParameterError, match="no parameter 'elasticNetParam'.*ALS has it"):
        SGD(elasticNetParam=0.5)
    with pytest.raises(TypeError, match="Could not convert ten to int"):
        ALS(rank="ten")


def test_subclasses_pass_their_keywords_on():
    class Mine(ALS):
        def __init__(self, **more):
            super().__init__(**{"rank": 5, **more})

    assert Mine().getRank() == 5 and Mine(rank=6, maxIter=2).getRank() == 6
    assert Mine().getMaxIter() == 10
