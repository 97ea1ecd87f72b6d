"""The bounds and defaults of all options are those of the contract."""

import json
import math
from typing import Any

import pytest
from google.protobuf.duration_pb2 import Duration

from gramophone.option import Option
from gramophone.options import OPTIONS
from gramophone.v1 import options_pb2 as pb
from gramophone_server.messages.options import JobKind, SynthesisOptions
from gramophone_server.models.store import BUILTIN_MODEL, ModelStore
from gramophone_server.reading.options import read_options
from gramophone_server.reading.rules import read_field, rules_of, word_of
from gramophone_server.rpc.violations import Checker

KINDS: tuple[JobKind, ...] = ("style", "content", "transfer")
# Pictures are read elsewhere.
JOB_OPTIONS = [option for option in OPTIONS if option.path.startswith("options.") and option.type != "image"]
NUMBERS = [option for option in JOB_OPTIONS if option.type in ("integer", "number") and not option.values]


def read(options: pb.SynthesisOptions, kind: JobKind = "style") -> tuple[SynthesisOptions, list[tuple[str, str]]]:
    check = Checker()
    return read_options(options, kind, ModelStore().get(BUILTIN_MODEL).manifest, check), check.violations


def message_and_field(options: pb.SynthesisOptions, option: Option):
    """Returns (the message that has the option's field, the field's descriptor)."""
    *outer, name = option.path.removeprefix("options.").split(".")
    message = options
    for part in outer:
        message = getattr(message, part)
    return message, message.DESCRIPTOR.fields_by_name[name]


def with_option(option: Option, value: object) -> pb.SynthesisOptions:
    options = pb.SynthesisOptions()
    message, field = message_and_field(options, option)
    setattr(message, field.name, value)
    return options


@pytest.mark.parametrize("kind", KINDS)
def test_explicit_defaults_equal_unset_options(kind):
    unset, _ = read(pb.SynthesisOptions(), kind)
    options = pb.SynthesisOptions()
    written = 0
    for option in JOB_OPTIONS:
        message, field = message_and_field(options, option)
        rules = rules_of(field)
        default = rules.default_value or getattr(rules, f"default_{kind}")
        if not default:
            continue
        if field.enum_type is not None:
            setattr(message, field.name, field.enum_type.values_by_name[default].number)
        else:
            setattr(message, field.name, json.loads(default))
        written += 1
    assert written > 15
    assert read(options, kind) == (unset, [])


@pytest.mark.parametrize("kind", KINDS)
def test_options_are_read_as_written(kind):
    unset, _ = read(pb.SynthesisOptions(), kind)
    options = pb.SynthesisOptions()
    for option in JOB_OPTIONS:
        value: Any = unset
        for part in option.path.removeprefix("options.").split("."):
            value = getattr(value, part)
        if value is not None:
            message, field = message_and_field(options, option)
            setattr(message, field.name, option.choices[value] if option.type == "choice" else value)
    assert read(options, kind) == (unset, [])


@pytest.mark.parametrize("option", NUMBERS, ids=lambda option: option.name)
def test_numbers_are_accepted_only_within_their_bounds(option):
    _, field = message_and_field(pb.SynthesisOptions(), option)
    rules = rules_of(field)
    low, high = rules.minimum, rules.maximum if rules.HasField("maximum") else option.bounds[1] or 1e308
    step = 1 if option.type == "integer" else 1e-3
    good = [low + step if rules.minimum_excluded else low, high, *([0] if rules.or_zero else [])]
    for value in good:
        assert read(with_option(option, int(value) if option.type == "integer" else value))[1] == []
    bad = [low if rules.minimum_excluded else low - step]
    if rules.HasField("maximum"):
        bad.append(high + (1 if option.type == "integer" else max(1e-3, high / 1e6)))
    if option.type == "number":
        bad += [math.nan, math.inf, -math.inf]
    for value in bad:
        if option.type == "integer" and not option.bounds[0] <= value <= option.bounds[1]:
            continue
        (violation,) = read(with_option(option, int(value) if option.type == "integer" else value))[1]
        assert violation[0] == option.path and "must be" in violation[1]


@pytest.mark.parametrize("option", [o for o in JOB_OPTIONS if o.values], ids=lambda option: option.name)
def test_only_listed_numbers_are_accepted(option):
    for value in range(1, 40):
        violations = read(with_option(option, value))[1]
        assert bool(violations) is (value not in option.values)


@pytest.mark.parametrize("option", [o for o in JOB_OPTIONS if o.type == "choice"], ids=lambda option: option.name)
def test_only_allowed_enum_values_are_accepted(option):
    _, field = message_and_field(pb.SynthesisOptions(), option)
    rules = rules_of(field)
    for known in [*field.enum_type.values, None]:
        number = known.number if known is not None else 99
        if number == 0 or (option.name == "init" and number == pb.INIT_IMAGE):
            continue
        violations = [
            v for v in read(with_option(option, number), "transfer")[1] if "must be one of" in v[1] or "enum" in v[1]
        ]
        allowed = known is not None and (not rules.values or known.name in rules.values)
        assert bool(violations) is not allowed


def test_word_of_each_enum_value():
    words = {word_of(pb.DESCRIPTOR.enum_types_by_name["Pooling"], value) for value in pb.Pooling.values() if value}
    assert words == {"max", "average", "average_rescaled"}


@pytest.mark.parametrize(("duration", "seconds"), [(Duration(seconds=3, nanos=500_000_000), 3.5), (Duration(), None)])
def test_a_duration_is_read_as_seconds_and_must_be_positive(duration, seconds):
    check = Checker()
    value = read_field(pb.SynthesisOptions(time_limit=duration), "time_limit", check, prefix="options.")
    assert value == seconds
    assert bool(check.violations) is (seconds is None)
