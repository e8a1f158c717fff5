"""Scripts for the shells' completion, made from the parser, so that they never lag behind it."""

from __future__ import annotations

import argparse

_TAKES_PATH = frozenset({"--file", "-o", "--output"})
_PATH_COMMANDS = frozenset({"upload"})
_P2P = "send receive list store decline cancel safety"


def script(shell: str, parser: argparse.ArgumentParser) -> str:
    """shell: bash, zsh or fish."""
    commands = _commands(parser)
    common = _options(parser)
    return {"bash": _bash, "zsh": _zsh, "fish": _fish}[shell](commands, common)


def _commands(parser: argparse.ArgumentParser) -> dict[str, tuple[str, list[str]]]:
    """Name → (help, options)."""
    action = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
    return {name: (helps.get(name, ""), _options(sub)) for name, sub in action.choices.items()}


def _options(parser: argparse.ArgumentParser) -> list[str]:
    return [text for action in parser._actions for text in action.option_strings]


def _bash(commands: dict[str, tuple[str, list[str]]], common: list[str]) -> str:
    cases = "\n".join(
        f"    {name}) words='{' '.join([*options, *common])}'"
        + (" ; [[ $current != -* ]] && files=1" if name in _PATH_COMMANDS else "")
        + " ;;"
        for name, (_, options) in commands.items()
    )
    return f"""\
# hypersend completion for bash: eval "$(hypersend completion bash)"
_hypersend() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} previous=${{COMP_WORDS[COMP_CWORD-1]}} command= words= files= i
  for ((i = 1; i < COMP_CWORD; i++)); do
    case ${{COMP_WORDS[i]}} in
      --server|--account) ((i++)) ;;
      -*) ;;
      *) command=${{COMP_WORDS[i]}}; break ;;
    esac
  done
  case $previous in {"|".join(sorted(_TAKES_PATH))}) files=1 ;; esac
  case $command in
    '') words='{" ".join([*commands, *common])}' ;;
{cases}
  esac
  [[ $command == completion ]] && words='bash zsh fish'
  if [[ $command == p2p ]]; then
    words="{_P2P} $words"
    [[ $COMP_CWORD -gt 3 && $current != -* ]] && files=1
  fi
  if [[ $files ]]; then
    compopt -o filenames 2>/dev/null
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  else
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
  fi
}}
complete -F _hypersend hypersend
"""


def _zsh(commands: dict[str, tuple[str, list[str]]], common: list[str]) -> str:
    names = "\n".join(f"    '{name}:{_plain(help_)}'" for name, (help_, _) in commands.items())
    cases = "\n".join(
        f"    {name}) " + ("_files ;;" if name in _PATH_COMMANDS else f"compadd -- {' '.join([*options, *common])} ;;")
        for name, (_, options) in commands.items()
    )
    return f"""\
#compdef hypersend
# hypersend completion for zsh: eval "$(hypersend completion zsh)"
_hypersend() {{
  local -a commands
  commands=(
{names}
  )
  case ${{words[CURRENT-1]}} in {"|".join(sorted(_TAKES_PATH))}) _files; return ;; esac
  if (( CURRENT == 2 )); then
    _describe command commands
    return
  fi
  case ${{words[2]}} in
    completion) compadd bash zsh fish ;;
    p2p) if (( CURRENT == 3 )); then compadd {_P2P}; else _files; fi ;;
{chr(10).join(line for line in cases.split(chr(10)) if not line.startswith(("    completion)", "    p2p)")))}
  esac
}}
compdef _hypersend hypersend
"""


def _fish(commands: dict[str, tuple[str, list[str]]], common: list[str]) -> str:
    lines = ["# hypersend completion for fish: hypersend completion fish | source", "complete -c hypersend -f"]
    lines += [
        f"complete -c hypersend -n __fish_use_subcommand -a {name} -d '{_plain(help_)}'"
        for name, (help_, _) in commands.items()
    ]
    for option in common:
        lines.append(f"complete -c hypersend {_fish_option(option)}")
    for name, (_, options) in commands.items():
        when = f"-n '__fish_seen_subcommand_from {name}'"
        lines += [
            f"complete -c hypersend {when} {_fish_option(option)}" + (" -r -F" if option in _TAKES_PATH else "")
            for option in options
            if option not in common
        ]
        if name in _PATH_COMMANDS:
            lines.append(f"complete -c hypersend {when} -F")
    lines.append("complete -c hypersend -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'")
    lines.append(f"complete -c hypersend -n '__fish_seen_subcommand_from p2p' -a '{_P2P}' -F")
    return "\n".join(lines) + "\n"


def _fish_option(option: str) -> str:
    return f"-l {option[2:]}" if option.startswith("--") else f"-s {option[1:]}"


def _plain(text: str) -> str:
    return text.replace("'", "").replace(":", "")
