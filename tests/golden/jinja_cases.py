#!/usr/bin/env python3
"""jinja_cases.py [--check]: what the jinja2 package makes of each template in jinja.json, set up as
transformers does it. Where it refuses, null, and what the evaluator's own message must hold: the
text of raise_exception, else the name of the construct, written by hand. With --check nothing is
written, and it fails where the file says something else. Needs jinja2; the build does not, and
test_cli_template.sh runs the check where it is."""
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


class Raised(jinja2.TemplateError):
    pass


def raise_exception(message):
    raise Raised(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators,
                      sort_keys=sort_keys)


def render(environment, template, variables, given):
    try:
        return [template, environment.from_string(template).render(**variables)]
    except Raised as e:
        return [template, None, str(e)]
    except Exception as e:
        return [template, None, given[2] if len(given) > 2 else str(e)]


def transformers_environment():
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=[Generation, ext.loopcontrols])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = datetime.datetime(2026, 11, 25).strftime
    return environment


def main():
    environment = transformers_environment()
    with open(PATH, encoding="utf-8") as f:
        text = f.read()
    variables, cases = (json.loads(text)[key] for key in ("variables", "cases"))
    rows = [render(environment, case[0], variables, case) for case in cases]
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
