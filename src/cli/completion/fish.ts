import type { CommandOutline, OptionOutline, Values } from '../outline.ts';
import { addressBeginnings, allOf } from '../outline.ts';

/** A script that completes commands in fish: to be sourced, or as `completions/tvix-store.fish`. */
export function fishCompletion(program: CommandOutline): string {
  const all = allOf(program);
  return `# fish completion for tvix-store, made by "tvix-store completion fish"

# Whether an option of a command takes a value.
function __tvix_store_takes_value --argument-names name flag
    switch $name
${all.map(valuedCase).join('')}    end
end

# Prints the words of the command that is being given, and after a tab "operand" when there is one.
function __tvix_store_command
    set -l name ''
    set -l operand ''
    set -l is_value 0
    for word in (commandline -opc)[2..-1]
        if test $is_value = 1
            set is_value 0
            continue
        end
        switch $word
            case '--*=*'
            case '-*'
                __tvix_store_takes_value $name $word; and set is_value 1
            case '*'
                set -l longer (string trim -- "$name $word")
                if test -z "$operand"; and contains -- $longer ${all
                  .flatMap(({ calls }) => calls)
                  .filter(Boolean)
                  .map(quote)
                  .join(' ')}
                    set name $longer
                else
                    set operand operand
                end
        end
    end
    printf '%s\\t%s\\n' $name $operand
end

function __tvix_store_is
    set -l command (string split \\t -- (__tvix_store_command))
    contains -- $command[1] $argv
end

function __tvix_store_is_bare
    set -l command (string split \\t -- (__tvix_store_command))
    contains -- $command[1] $argv; and test -z "$command[2]"
end

complete -c tvix-store -f
${all.map(completions).join('')}`;
}

function valuedCase({ calls, options }: CommandOutline): string {
  const valued = options.filter(({ values }) => values).flatMap(({ flags }) => flags);
  if (valued.length === 0) return '';
  return `        case ${calls.map(quote).join(' ')}
            contains -- $flag ${valued.join(' ')}
`;
}

function completions({ calls, options, operands, commands }: CommandOutline): string {
  const names = calls.map(quote).join(' ');
  const when = (test: string) => `complete -c tvix-store -n ${quote(`${test} ${names}`)}`;
  const lines = [
    ...commands.flatMap((one) =>
      one.names.map((name) => `${when('__tvix_store_is_bare')} -a ${name} -d ${quote(one.summary)}`),
    ),
    ...options.map((option) => `${when('__tvix_store_is')} ${optionFlags(option)}`),
    ...(operands.kind === 'other' ? [] : [`${when('__tvix_store_is')} ${complete(operands)}`]),
  ];
  return `${lines.join('\n')}\n`;
}

function optionFlags({ flags, values, description }: OptionOutline): string {
  const spellings = flags.map((flag) =>
    flag.startsWith('--') ? `-l ${flag.slice(2)}` : `-s ${flag.slice(1)}`,
  );
  return `${spellings.join(' ')}${values ? ` -r ${complete(values)}` : ''} -d ${quote(description)}`;
}

function complete(values: Values): string {
  switch (values.kind) {
    case 'choices':
      return `-f -a ${quote(values.choices.join(' '))}`;
    case 'file':
      return '-F';
    case 'directory':
      return `-f -a '(__fish_complete_directories)'`;
    case 'address':
      return `-f -a ${quote(addressBeginnings().join(' '))}`;
    case 'other':
      return '-f';
  }
}

function quote(text: string): string {
  return `'${text.replaceAll('\\', '\\\\').replaceAll("'", "\\'")}'`;
}
