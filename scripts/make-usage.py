#!/usr/bin/env python3
"""make-usage.py [--check] [RUN]: makes the commands and options in docs/gqa-run.1 and the
completions of bash and zsh, from what RUN --help and RUN COMMAND --help print (RUN: build/run).
--check writes nothing, and fails when one of them differs."""
import os
import re
import subprocess
import sys

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
MAN, BASH, ZSH = "docs/gqa-run.1", "completions/run.bash", "completions/_run"
BEGIN = '.\\" BEGIN: made by scripts/make-usage.py\n'
END = '.\\" END\n'


class Option:
    def __init__(self, name, argument, text):
        self.name, self.argument, self.text = name, argument, text


class Command:
    def __init__(self, name, summary, help_text):
        self.name, self.summary = name, summary
        head, self.options = parse_help(help_text)
        self.synopsis, _, self.description = head.partition("\n\n")


def parse_help(text):
    """What stands before the options, and the options: "  -n N     text", later lines indented."""
    head, options = [], []
    for line in text.removeprefix("usage: run ").split("\n"):
        option = re.match(r"  (-\S+)(?: (\S+))? +(\S.*)$", line)
        if option:
            options.append(Option(option[1], option[2], option[3]))
        elif options and line.strip():
            options[-1].text += " " + line.strip()
        elif not options:
            head.append(line)
    return "\n".join(head).strip(), options


def read_commands(run):
    def output(*arguments):
        return subprocess.run([run, *arguments], capture_output=True, text=True, check=True).stdout

    commands = []
    for name, summary in re.findall(r"^  ([a-z]+) +(.*)$", output("--help"), re.M):
        commands.append(Command(name, summary, output(name, "--help")))
    return commands


# ---- the manual ---------------------------------------------------------------------------------

def roff(text):
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return "\n".join("\\&" + line if line[:1] in (".", "'") else line for line in text.split("\n"))


def synopsis(command):
    """In bold, but for what the user replaces."""
    words = re.sub(r"[A-Z][A-Za-z]*(\.gguf)?|\[options\]", r"\\fI\g<0>\\fB", roff(command.synopsis))
    return "\\fBgqa\\-run " + words + "\\fR"


def manual(commands):
    lines = [".SH COMMANDS"]
    for c in commands:
        lines += [".TP", ".B " + c.name, roff(c.summary)]
    lines += [".SH OPTIONS"]
    for c in commands:
        lines += [f'.SS "{synopsis(c)}"'] + [roff(c.description)] * bool(c.description)
        for o in c.options:
            argument = f" \\fI{o.argument}\\fR" if o.argument else ""
            lines += [".TP", f"\\fB{roff(o.name)}\\fR{argument}", roff(o.text)]
    return "\n".join(lines) + "\n"


def man_page(commands):
    with open(os.path.join(ROOT, MAN), encoding="utf-8") as f:
        before, rest = f.read().split(BEGIN)
    return before + BEGIN + manual(commands) + END + rest.split(END)[1]


# ---- completions --------------------------------------------------------------------------------

BASH_TEXT = """\
# bash completion of gqa-run and ./run, made by scripts/make-usage.py
_gqa_run() {
    local word=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} options values
    case ${COMP_WORDS[1]} in
@CASES@
    esac
    if ((COMP_CWORD == 2)) && [[ ${COMP_WORDS[1]} == help ]]; then
        COMPREPLY=($(compgen -W "@COMMANDS@" -- "$word"))
    elif ((COMP_CWORD == 1)); then
        COMPREPLY=($(compgen -W "@COMMANDS@ help version --help --version" -- "$word"))
    elif [[ " $values " == *" $previous "* ]]; then
        compopt +o default # a number or a name
        COMPREPLY=()
    elif [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
    fi # else files, by default
}
complete -o default -F _gqa_run gqa-run ./run
"""


def bash(commands):
    def case(pattern, command):
        options = " ".join(o.name for o in command.options)
        values = " ".join(o.name for o in command.options if o.argument not in (None, "FILE"))
        return (f'        {pattern})\n            options="{options}"\n'
                f'            values="{values}" ;;')

    cases = [case(c.name, c) for c in commands[1:]] + [case("*", commands[0])]
    names = " ".join(c.name for c in commands)
    return BASH_TEXT.replace("@CASES@", "\n".join(cases)).replace("@COMMANDS@", names)


ZSH_TEXT = """\
#compdef gqa-run run
# zsh completion of gqa-run and ./run, made by scripts/make-usage.py
@FUNCTIONS@
_gqa_run() {
    local -a commands
    commands=(
@COMMANDS@
    )
    if (( CURRENT == 3 )) && [[ $words[2] == help ]]; then
        _describe command commands
    elif (( CURRENT == 2 )); then
        commands+=('help:the commands, or the options of one' 'version:print the version')
        _describe command commands
        _files
    elif (( $+functions[_gqa_run_$words[2]] )); then
        local command=$words[2]
        shift words
        (( CURRENT-- ))
        _gqa_run_$command
    else
        _gqa_run_@DEFAULT@
    fi
}
_gqa_run "$@"
"""


def zsh(commands):
    def quote(text):
        return "'" + text.replace("'", "'\\''") + "'"

    def specification(o):
        argument = {None: "", "FILE": ":FILE:_files"}.get(o.argument, f":{o.argument}:")
        repeated = "*" if "may be repeated" in o.text else ""
        text = re.sub(r"[\[\]\\:]", r"\\\g<0>", o.text)
        return quote(f"{repeated}{o.name}[{text}]{argument}")

    def function(c):
        lines = [f"_gqa_run_{c.name}() {{", "    _arguments -S \\"]
        lines += [f"        {specification(o)} \\" for o in c.options]
        return "\n".join(lines + ["        '*:FILE:_files'", "}"])

    entries = ["        " + quote(c.name + ":" + c.summary.replace(":", "\\:")) for c in commands]
    text = ZSH_TEXT.replace("@FUNCTIONS@", "\n".join(function(c) for c in commands))
    return text.replace("@COMMANDS@", "\n".join(entries)).replace("@DEFAULT@", commands[0].name)


def main():
    arguments = [a for a in sys.argv[1:] if a != "--check"]
    commands = read_commands(arguments[0] if arguments else os.path.join(ROOT, "build/run"))
    made = {MAN: man_page(commands), BASH: bash(commands), ZSH: zsh(commands)}
    stale = 0
    for name, text in made.items():
        path = os.path.join(ROOT, name)
        old = None
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                old = f.read()
        if old == text:
            continue
        stale = 1
        if "--check" in sys.argv:
            print(f"{name} is not what --help says: run scripts/make-usage.py")
        else:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "w", encoding="utf-8") as f:
                f.write(text)
    return stale if "--check" in sys.argv else 0


if __name__ == "__main__":
    sys.exit(main())
