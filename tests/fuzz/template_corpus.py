#!/usr/bin/env python3
"""template_corpus.py FOLDER: a corpus for fuzz_template from the real templates of
$GQA_DATA/cases/templates.json: each alone, and with one of the conversations behind a 0."""
import json
import os
import sys


def main():
    folder = sys.argv[1]
    with open(os.path.join(os.environ["GQA_DATA"], "cases/templates.json"), encoding="utf-8") as f:
        data = json.load(f)
    conversations = list(data["conversations"].values())
    os.makedirs(folder, exist_ok=True)
    for i, template in enumerate(data["templates"]):
        text = template["chat_template"].encode()
        messages = json.dumps(conversations[i % len(conversations)]["messages"]).encode()
        for name, contents in (("alone", text), ("with", text + b"\0" + messages)):
            with open(os.path.join(folder, f"{i:02}-{name}"), "wb") as f:
                f.write(contents)


if __name__ == "__main__":
    sys.exit(main())
