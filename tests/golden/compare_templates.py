#!/usr/bin/env python3
"""compare_templates.py RUN FOLDER: every *.jinja of FOLDER with eleven conversations, by `RUN
template` and by the jinja2 package, set up as transformers does it. Prints each difference, and
counts: equal, raised by both (in the same words), refused by both, refused only by RUN, different.
Fetches nothing; needs jinja2. Exit 1 where something is refused only by RUN, or differs."""
import glob
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter

from jinja_cases import Raised, transformers_environment

USER = {"role": "user", "content": " Hi <b>\u00e9 'there' "}
SYSTEM = {"role": "system", "content": "Be kind.\n"}
ANSWER = {"role": "assistant", "content": "Hello!"}
THOUGHT = {"role": "assistant", "content": "<think>\nHm\n</think>\n\nYes.",
           "reasoning_content": "Hm"}
PARTS = {"role": "user", "content": [{"type": "text", "text": "What"},
                                     {"type": "text", "text": " is it?"}]}
TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "The weather <now>", "parameters": {
        "type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "A city", "enum": ["Paris", "Gen\u00e8ve"]},
            "days": {"type": ["integer", "null"], "default": 1},
            "options": {"type": "object", "properties": {"unit": {"type": "string"}}},
            "places": {"type": "array", "items": {"type": "string"}}}}}}]
ARGUMENTS = {"city": "Paris", "days": 2, "options": {"unit": "C"}, "places": [], "exact": True}
CALL = {"role": "assistant", "content": "", "tool_calls": [
    {"id": "abcdef123", "type": "function",
     "function": {"name": "get_weather", "arguments": ARGUMENTS}}]}
RESULT = {"role": "tool", "name": "get_weather", "tool_call_id": "abcdef123",
          "content": "{\"t\": 21.5}"}
CASES = {
    "user": ([USER], {}),
    "system": ([SYSTEM, USER], {}),
    "turns": ([USER, ANSWER, USER], {}),
    "thought": ([SYSTEM, USER, THOUGHT, USER], {}),
    "think": ([USER], {"enable_thinking": True, "thinking": True}),
    "no_think": ([SYSTEM, USER], {"enable_thinking": False, "thinking": False}),
    "closed": ([USER, ANSWER], {"add_generation_prompt": False}),
    "parts": ([PARTS], {}),
    "tools": ([SYSTEM, USER], {"tools": TOOLS}),
    "tool_turn": ([USER, CALL, RESULT, ANSWER, USER], {"tools": TOOLS}),
    "tool_result": ([USER, CALL, RESULT], {"tools": TOOLS}),
}


def theirs(environment, source, messages, options):
    variables = {"messages": messages, "tools": None, "documents": None, "bos_token": "<s>",
                 "eos_token": "</s>", "add_generation_prompt": True, **options}
    try:
        return environment.from_string(source).render(**variables), ""
    except Raised as e:
        return None, f"run: {e}"
    except Exception as e:
        return None, f"{type(e).__name__}: {e}"


def ours(run, path, messages, options):
    command = [run, "template", path, "--messages", "-", "--date", "2026-11-25", "--bos", "<s>",
               "--eos", "</s>"]
    if "enable_thinking" in options:
        command.append("--think" if options["enable_thinking"] else "--no-think")
    if "add_generation_prompt" in options:
        command.append("--no-prompt")
    with tempfile.NamedTemporaryFile("w", suffix=".json") as tools:
        if "tools" in options:
            json.dump(options["tools"], tools)
            tools.flush()
            command += ["--tools", tools.name]
        done = subprocess.run(command, input=json.dumps(messages).encode(), capture_output=True)
    return None if done.returncode else done.stdout.decode(), done.stderr.decode().strip()


def main():
    run, folder = sys.argv[1:]
    environment, counts = transformers_environment(), Counter()
    paths = sorted(glob.glob(os.path.join(folder, "*.jinja")))
    for path in paths:
        with open(path, encoding="utf-8") as f:
            source = f.read()
        for name, (messages, options) in CASES.items():
            want, error = theirs(environment, source, messages, options)
            got, message = ours(run, path, messages, options)
            result = "equal" if got == want else "different"
            if got is None:
                result = "refused by both" if want is None else "refused only here"
            if result == "refused by both" and error.startswith("run: "):
                result = "raised by both" if message.endswith(error) else "different"
            counts[result] += 1
            if want != got or result == "different":
                print(f"{os.path.basename(path)}, {name}: {result}: {message or got!r}"
                      f"; expected {error or want!r}")
            elif want is None:
                print(f"{os.path.basename(path)}, {name}: {message} | {error}")
    print(f"{len(paths)} templates: {dict(counts)}")
    return bool(counts["different"] + counts["refused only here"])


if __name__ == "__main__":
    sys.exit(main())
