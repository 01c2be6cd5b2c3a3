#!/usr/bin/env python3
"""jinja_cases.py [--check]: what the jinja2 package makes of each template in jinja.json, set up as
transformers does it; null where it refuses. With --check nothing is written, and it fails where the
file says something else. Needs jinja2; neither build nor tests do."""
import datetime
import json
import os
import sys

import jinja2
from jinja2 import ext, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

PATH = os.path.join(os.path.dirname(os.path.abspath(__file__)), "jinja.json")


class Generation(ext.Extension):
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return nodes.CallBlock(self.call_method("_call"), [], [], body).set_lineno(line)

    def _call(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def render(environment, template, variables):
    try:
        return environment.from_string(template).render(**variables)
    except Exception:
        return None


def main():
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=[Generation, ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = datetime.datetime(2026, 11, 25).strftime
    with open(PATH, encoding="utf-8") as f:
        text = f.read()
    variables, cases = (json.loads(text)[key] for key in ("variables", "cases"))
    rows = [[template, render(environment, template, variables)] for template, _ in cases]
    lines = ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows)
    given = json.dumps(variables, ensure_ascii=False)
    made = f'{{"variables": {given},\n"cases": [\n{lines}\n]}}\n'
    if "--check" in sys.argv:
        return made != text
    with open(PATH, "w", encoding="utf-8") as f:
        f.write(made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
