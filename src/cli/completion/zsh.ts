import type { CommandOutline, OptionOutline, Values } from '../outline.ts';
import { addressBeginnings, allOf } from '../outline.ts';

/** A script that completes commands in zsh: to be sourced, or as `_tvix-store` in a directory of `fpath`. */
export function zshCompletion(program: CommandOutline): string {
  return `#compdef tvix-store
# zsh completion for tvix-store, made by "tvix-store completion zsh"

_tvix_store_address() {
  local -a beginnings=(${addressBeginnings().map(quote).join(' ')})
  compadd -S '' -a beginnings
}

${allOf(program).map(commandFunction).join('\n')}
_tvix-store() { _tvix_store; }
if [[ $funcstack[1] == _tvix-store ]]; then
  _tvix-store "$@"
else
  compdef _tvix-store tvix-store
fi
`;
}

function commandFunction({ calls, options, operands, commands }: CommandOutline): string {
  const specs = options.map(optionSpec);
  const name = functionName(calls[0]!);
  if (commands.length === 0) {
    return `${name}() {
  _arguments -s -S ${[...specs, quote(`*:${label(operands)}:${action(operands)}`)].join(' \\\n    ')}
}
`;
  }
  const described = commands.flatMap((one) => one.names.map((word) => quote(`${word}:${one.summary}`)));
  const cases = commands.map((one) => `${one.names.join('|')}) ${functionName(one.calls[0]!)} ;;`);
  return `${name}() {
  local curcontext=$curcontext state line
  typeset -A opt_args
  _arguments -s -S -C ${[...specs, "'1:command:->command'", "'*::argument:->argument'"].join(' \\\n    ')}
  case $state in
    command)
      local -a commands=(
        ${described.join('\n        ')}
      )
      _describe command commands
      ;;
    argument)
      case $line[1] in
        ${cases.join('\n        ')}
      esac
      ;;
  esac
}
`;
}

function functionName(call: string): string {
  return `_tvix_store${call && `_${call.replaceAll(/[ -]/g, '_')}`}`;
}

function optionSpec({ flags, values, placeholder, description }: OptionOutline): string {
  const value = values ? `:${placeholder}:${action(values)}` : '';
  const help = `[${description.replaceAll(/[[\]\\:]/g, '\\$&')}]`;
  const spec = (flag: string) =>
    quote(`${flag}${values ? (flag.startsWith('--') ? '=' : '+') : ''}${help}${value}`);
  if (flags.length === 1) return spec(flags[0]!);
  // Either spelling is offered as long as the other is not there.
  return flags.map((flag) => `${quote(`(${flags.join(' ')})`)}${spec(flag)}`).join(' \\\n    ');
}

function label(operands: Values): string {
  return operands.kind === 'other' ? 'argument' : operands.kind;
}

function action(values: Values): string {
  switch (values.kind) {
    case 'choices':
      return `(${values.choices.join(' ')})`;
    case 'file':
      return '_files';
    case 'directory':
      return '_files -/';
    case 'address':
      return '_tvix_store_address';
    case 'other':
      return ' ';
  }
}

function quote(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`;
}
