import type { CommandOutline, Values } from '../outline.ts';
import { addressBeginnings, allOf } from '../outline.ts';

/** A script that completes commands in bash; it needs nothing but bash 4.3. */
export function bashCompletion(program: CommandOutline): string {
  return `# bash completion for tvix-store, made by "tvix-store completion bash"

# What a command has: subcommands, options, those of them that take a value, with what it can be, and operands.
_tvix_store_command() {
  commands='' options='' values='' operands=other
  case $1 in
${allOf(program).map(describe).join('')}    *) return 1 ;;
  esac
}

# Completes a value: one of a kind, or of choices with commas between them.
_tvix_store_value() {
  case $1 in
    other) ;;
    file) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$2") ;;
    directory) compopt -o filenames; mapfile -t COMPREPLY < <(compgen -d -- "$2") ;;
    address) compopt -o nospace; mapfile -t COMPREPLY < <(compgen -W '${addressBeginnings().join(' ')}' -- "$2") ;;
    *) mapfile -t COMPREPLY < <(compgen -W "\${1//,/ }" -- "$2") ;;
  esac
}

_tvix_store() {
  local -a words=()
  local rest=$COMP_LINE word i
  # Bash cuts words at : and = as well: what has no space before it belongs to the word before.
  for ((i = 0; i <= COMP_CWORD; i++)); do
    word=\${COMP_WORDS[i]}
    if [[ $i == 0 || $rest == [[:space:]]* ]]; then
      rest=\${rest#"\${rest%%[![:space:]]*}"}
      words+=("$word")
    else
      words[-1]+=$word
    fi
    rest=\${rest:\${#word}}
  done

  local commands options values operands name='' value='' hasOperand='' current=\${words[-1]} taken
  COMPREPLY=()
  _tvix_store_command ''
  for word in "\${words[@]:1:\${#words[@]}-2}"; do
    if [[ $value ]]; then value=''; continue; fi
    case $word in
      -*)
        [[ " $values" =~ " $word:"([^ ]+) ]] && value=\${BASH_REMATCH[1]}
        ;;
      *)
        if [[ ! $hasOperand && " $commands " == *" $word "* ]]; then
          name=\${name:+$name }$word
          _tvix_store_command "$name" || return
        else
          hasOperand=1
        fi
        ;;
    esac
  done

  if [[ $value ]]; then
    _tvix_store_value "$value" "$current"
  elif [[ $current == --*=* ]]; then
    taken=\${current%%=*}
    if [[ " $values" =~ " $taken:"([^ ]+) ]]; then
      _tvix_store_value "\${BASH_REMATCH[1]}" "\${current#*=}"
      COMPREPLY=("\${COMPREPLY[@]/#/$taken=}")
    fi
  elif [[ $current == -* ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$options" -- "$current")
  elif [[ $commands && ! $hasOperand ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$current")
  else
    _tvix_store_value "$operands" "$current"
  fi
  # Bash replaces only what stands behind the last : or =.
  word=\${current%"\${current##*[:=]}"}
  COMPREPLY=("\${COMPREPLY[@]#"$word"}")
}
complete -F _tvix_store tvix-store
`;
}

function describe({ calls, options, operands, commands }: CommandOutline): string {
  const flags = options.flatMap((option) => option.flags);
  const valued = options.flatMap((option) =>
    option.values ? option.flags.map((flag) => `${flag}:${kindOf(option.values!)}`) : [],
  );
  const names = commands.flatMap((one) => one.names);
  return `    ${calls.map((call) => `'${call}'`).join(' | ')})
      commands='${names.join(' ')}'
      options='${flags.join(' ')}'
      values='${valued.join(' ')}'
      operands='${kindOf(operands)}'
      ;;
`;
}

function kindOf(values: Values): string {
  return values.kind === 'choices' ? values.choices.join(',') : values.kind;
}
