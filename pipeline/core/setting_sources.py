"""Sources of settings (options, the environment, lines of `.env`), and the sentences for wrong values."""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from pydantic import AliasChoices, ValidationError
from pydantic_settings import BaseSettings

from pipeline.core.env_file import read_env
from pipeline.core.setting_types import PROJECT

S = TypeVar("S", bound=BaseSettings)
# Settings of the Kafka service that this pipeline took the place of.
_KAFKA = "TRADES_KAFKA_"
_SECRET = re.compile(r"SECRET|KEY|TOKEN|URL|PASSW", re.IGNORECASE)


@dataclass(frozen=True)
class Given:
    """A value and the name under which the user set it."""

    name: str
    value: Any
    place: str = ""  # " (.env line 3)"; empty for the environment and options


def env_file() -> Path:
    """Return the path of the `.env` in use: `ENV_FILE`, or the project's."""
    return Path(os.environ.get("ENV_FILE") or PROJECT / ".env")


def names_of(section: type[BaseSettings]) -> dict[str, str]:
    """Return environment name -> field name of a section; the canonical name of a field comes first."""
    names: dict[str, str] = {}
    prefix = str(section.model_config.get("env_prefix", ""))
    for field, info in section.model_fields.items():
        alias = info.validation_alias
        for name in alias.choices if isinstance(alias, AliasChoices) else [f"{prefix}{field}".upper()]:
            names[str(name)] = field
    return names


class Found:
    """The settings in environment and `.env`. `wrong`: a sentence for each invalid line and unknown name."""

    def __init__(self, sections: Iterable[type[BaseSettings]], prefixes: tuple[str, ...], foreign: re.Pattern[str]):
        path = env_file()
        shown = ".env" if path == PROJECT / ".env" else str(path)
        file = read_env(path, shown)
        self.wrong = list(file.wrong)
        self._file = {
            key: Given(entry.name, entry.value.strip(), f" ({shown} line {entry.line})")
            for key, entry in file.entries.items()
        }
        self._environment = {name.upper(): Given(name, value.strip()) for name, value in os.environ.items()}
        known = frozenset(name for section in sections for name in names_of(section))
        everything = sorted((self._file | self._environment).items())
        if kafka := [f"{given.name}{given.place}" for key, given in everything if key.startswith(_KAFKA)]:
            self.wrong.append(
                f"{', '.join(kafka)}: Kafka is not used; set PULSAR_URL; topics follow from venue and product."
            )
        for key, given in everything:
            if key in known or key.startswith(_KAFKA) or foreign.fullmatch(key):
                continue
            # In the file a near miss without a known prefix counts too (LOGLEVEL); the environment is shared with
            # others.
            cutoff = 0.5 if key.startswith(prefixes) else 0.8 if key in self._file else 2
            near = difflib.get_close_matches(key, known, n=1, cutoff=cutoff) if cutoff < 1 else []
            if key.startswith(prefixes) or near:
                hint = f"; did you mean {near[0]}?" if near else "; see .env.example."
                self.wrong.append(f"Unknown setting {given.name}{given.place}{hint}")

    def make(self, section: type[S], overrides: Mapping[str, Any] | None = None) -> tuple[S | None, list[str]]:
        """Create the section; returns (section, []) or (None, a sentence per wrong field). `overrides`: from the
        command line."""
        given = self._given(section)
        for field, value in (overrides or {}).items():
            if value is not None:
                given[field] = Given(_flag(field, value), value)
        try:
            return section(**{field: one.value for field, one in given.items()}), []
        except ValidationError as error:
            fields = names_of(section)
            sentences: dict[str, str] = {}  # one per field, even if several items of a list are wrong
            for one in error.errors():
                field = fields.get(str(one["loc"][0]), str(one["loc"][0]))
                sentences.setdefault(field, _sentence(given[field], one))
            return None, list(sentences.values())

    def _given(self, section: type[BaseSettings]) -> dict[str, Given]:
        """Return field -> value: the environment takes precedence over the file, the first of several names over the
        others; an empty value means unset."""
        given: dict[str, Given] = {}
        for source in (self._environment, self._file):
            for name, field in names_of(section).items():
                if field not in given and (one := source.get(name)) and one.value:
                    given[field] = one
            # a field set in the environment hides all its names in the file
        return given


def _flag(field: str, value: Any) -> str:
    """Return the option of the running command that has `value`."""
    context = click.get_current_context(silent=True)
    carriers = [
        option
        for option in (context.command.params if context else [])
        if context
        and option.name
        and context.params.get(option.name) is value
        and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]
    if not carriers:
        return "--" + field.replace("_", "-")
    likeness = {option: difflib.SequenceMatcher(None, option.name or "", field).ratio() for option in carriers}
    return max(carriers, key=lambda option: likeness[option]).opts[0]


def _sentence(given: Given, error: Any) -> str:
    text = str(error["msg"]).removeprefix("Value error, ").replace("Input should be", "must be")
    if error["type"] == "string_too_long":
        text = f"must have at most {error['ctx']['max_length']} characters"
    hidden = _SECRET.search(given.name) or error["type"] in ("value_error", "string_too_long")
    value = repr(given.value)
    shown = "" if hidden else f" (it is {value if len(value) <= 80 else value[:77] + '...'})"
    return f"{given.name}{given.place}: {text}{shown}."
