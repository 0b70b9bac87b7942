import type { Command as CommanderCommand } from 'commander';
import { Argument } from 'commander';
import { Command } from '../command.ts';
import { bashCompletion } from '../completion/bash.ts';
import { fishCompletion } from '../completion/fish.ts';
import { zshCompletion } from '../completion/zsh.ts';
import type { CommandOutline } from '../outline.ts';
import { outlineOf } from '../outline.ts';

const SHELLS: Readonly<Record<string, (program: CommandOutline) => string>> = {
  bash: bashCompletion,
  zsh: zshCompletion,
  fish: fishCompletion,
};

/** `load` gives the program with all of its commands. */
export function completionCommand(load: () => Promise<CommanderCommand>): Command {
  return new Command('completion')
    .summary('print a script that completes commands in a shell')
    .description(
      'Prints a script that completes commands, options and their values in bash, zsh or fish. Source it in the ' +
        'start-up file of the shell, or put it where the shell looks for completions.',
    )
    .addArgument(new Argument('<SHELL>', 'the shell').choices(Object.keys(SHELLS)))
    .example(
      'tvix-store completion bash > ~/.local/share/bash-completion/completions/tvix-store',
      'source <(tvix-store completion zsh)',
      'tvix-store completion fish > ~/.config/fish/completions/tvix-store.fish',
    )
    .action(async (shell: string) => {
      process.stdout.write(SHELLS[shell]!(outlineOf(await load())));
    });
}
