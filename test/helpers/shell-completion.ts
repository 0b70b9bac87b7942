import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { run } from './cli.ts';
import { tempDir } from './temp.ts';

/** A shell that completes command lines with a script. */
export interface CompletingShell {
  readonly name: string;
  /** What is missing on this machine to try it. */
  readonly missing: string | undefined;
  /** What the last word of a line can become, as the shell says with the script in this file. */
  complete(script: string, line: string): Promise<string[]>;
}

/**
 * A terminal with a shell in it: the line is typed, a key completes it to all that is possible at once, and
 * another one writes it to a file, for which the script waits.
 */
const BASH = `
out=$3
{
  printf 'PS1=; source %s\\n' "$1"
  printf '%s\\n' "bind '\\"\\\\C-t\\": insert-completions'"
  printf '%s\\n' "dump() { printf '%s\\\\n' \\"\\$READLINE_LINE\\" > $out; exit; }; bind -x '\\"\\\\C-g\\": dump'"
  printf '%s\\x14\\x07' "$2"
  while [ ! -s "$out" ]; do sleep 0.05; done
} | script -qec 'bash --norc --noprofile -i' /dev/null >&2
`;

const ZSH = `
out=$3
zmodload zsh/zpty
zpty shell 'PS1= zsh -f -i'
zpty -w shell "autoload -U compinit; compinit -u -d $1.dump; source $1"
zpty -w shell "all() { _main_complete; compstate[insert]=all; compstate[list]= }; zle -C all complete-word all"
zpty -w shell "dump() { print -r -- \\"\\$BUFFER\\" > $out; exit }; zle -N dump; bindkey '^T' all; bindkey '^G' dump"
zpty -w -n shell "$2"$'\\x14\\x07'
while [[ ! -s $out ]]; do zpty -r -t shell > /dev/null; sleep 0.05; done
`;

function typed(name: string, driver: string, command: string, needs: readonly string[]): CompletingShell {
  return {
    name,
    missing: missing(needs),
    async complete(script, line) {
      const out = join(tempDir(), 'line');
      writeFileSync(out, '');
      const { stdout, stderr } = await run(command, [
        '-c',
        `${driver}cat ${out}`,
        command,
        script,
        line,
        out,
      ]);
      if (!stdout) throw new Error(`${name} wrote no line: ${stderr}`);
      const before = line.replace(/\S*$/, '');
      return stdout.slice(before.length).trim().split(/\s+/).filter(Boolean);
    },
  };
}

const fish: CompletingShell = {
  name: 'fish',
  missing: missing(['fish']),
  async complete(script, line) {
    const { stdout } = await run('fish', [
      '--no-config',
      '-c',
      `source ${script}; complete -C "$argv[1]"`,
      line,
    ]);
    return stdout
      .split('\n')
      .filter(Boolean)
      .map((match) => match.split('\t')[0]!);
  },
};

export const SHELLS: readonly CompletingShell[] = [
  typed('bash', BASH, 'bash', ['bash', 'script']),
  typed('zsh', ZSH, 'zsh', ['zsh']),
  fish,
];

function missing(programs: readonly string[]): string | undefined {
  return programs.find((program) => spawnSync(program, ['--version']).error !== undefined);
}
