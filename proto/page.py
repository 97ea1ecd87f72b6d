"""Generates the table of options from which the web page makes its fields."""

import json
from typing import Any

from contract import Contract, Field
from options import job_options

_TYPE = """\
// Generated from proto/ by `make proto`; do not edit.

/** A value of an enum: its word, its number and its meaning. */
export interface Choice {
  word: string;
  number: number;
  help: string;
}

/** A field of a request. */
export interface Option {
  /** Path of the field in the request, such as "options.preview.every". */
  path: string;
  type: "integer" | "number" | "boolean" | "choice" | "weights" | "text" | "duration" | "image";
  /** Heading of the group; empty for fields outside the options of jobs. */
  group: string;
  help: string;
  /** Description of the default. */
  default: string;
  unit: string;
  /** Description of the allowed numbers. */
  range: string;
  /** Lowest and highest allowed number; 0 may be allowed as well, see `range`. */
  minimum: number | null;
  maximum: number | null;
  /** The only allowed numbers; empty if a range is allowed. */
  values: number[];
  choices: Choice[];
}

"""


def page_module(contract: Contract) -> str:
    """The text of web/page/src/contract.ts: the fields of a request with their types, bounds and comments."""
    enums = contract.enums()
    fields = [(f"{at}.{field.path}", field) for at, field in job_options(contract)]
    fields += [(field.path, field) for field in contract.fields("TransferStyleRequest") if _is_own(field)]
    fields += [(f"styles.{field.path}", field) for field in contract.fields("StyleSource")]
    rows = [json.dumps(_option(path, field, enums), ensure_ascii=False) for path, field in fields]
    table = "".join(f"  {row},\n" for row in rows)
    return f"{_TYPE}/** The fields of all requests. */\nexport const OPTIONS: readonly Option[] = [\n{table}];\n"


def _is_own(field: Field) -> bool:
    """Whether a field of a request is neither an option of jobs nor a picture."""
    return "." not in field.path and field.type != "image"


def _option(path: str, field: Field, enums: dict[str, Any]) -> dict[str, Any]:
    rules = field.rules
    # The message of a choice and its weight has the name of the choice's enum and "Weight".
    choices = field.choices or (enums[field.enum.removesuffix("Weight")] if field.type == "weights" else ())
    return {
        "path": path, "type": field.type, "group": rules.group, "help": field.comment, "default": field.default,
        "unit": rules.unit, "range": field.range,
        "minimum": _bound(field, "minimum"), "maximum": _bound(field, "maximum"),
        "values": list(field.values),
        "choices": [{"word": one.word, "number": one.number, "help": one.comment} for one in choices],
    }  # fmt: skip


def _bound(field: Field, name: str) -> float | None:
    """The minimum or maximum of a field: its own, else that of an integer's type; None for none."""
    if field.rules.HasField(name):
        return getattr(field.rules, name)  # type: ignore[no-any-return]
    return field.bounds[name == "maximum"] if field.type == "integer" else None
