import { join } from 'node:path';
import { UsageError } from '../../util/errors.ts';
import { makeDirectory } from '../../util/system/make-directory.ts';
import { writeWholeFile } from '../../util/system/whole-file.ts';
import { Command } from '../command.ts';
import { manPage, manPages } from '../man-page.ts';

/** `load` gives the program with all of its commands. */
export function manCommand(load: () => Promise<Command>, version: string): Command {
  return new Command('man')
    .summary('print manual pages')
    .description(
      'Prints the manual page of a command, or of the program, for man(1). With --directory, writes those of all ' +
        'commands there.',
    )
    .argument('[COMMAND...]', 'the command, such as: root add')
    .option('--directory <directory>', 'write every page to a file in this directory')
    .example('tvix-store man root add | man -l -', 'tvix-store man --directory ~/.local/share/man/man1')
    .action(async (words: string[], { directory }: { directory?: string }) => {
      if (directory !== undefined && words.length > 0) {
        throw new UsageError('give either COMMAND or --directory, which writes the pages of all commands');
      }
      const program = await load();
      if (directory === undefined) {
        process.stdout.write(manPage(find(program, words), version, pageDate()).text);
        return;
      }
      makeDirectory(directory);
      for (const { name, text } of manPages(program, version, pageDate()))
        await writeWholeFile(join(directory, `${name}.1`), [Buffer.from(text)]);
    });
}

function find(program: Command, words: readonly string[]): Command {
  let command = program;
  for (const word of words) {
    const next = command.commands.find((one) => one.name() === word || one.aliases().includes(word));
    if (!next) throw new UsageError(`there is no command ${JSON.stringify(words.join(' '))}`);
    command = next as Command;
  }
  return command;
}

/** Today, or what is wanted to build the same pages again: https://reproducible-builds.org/specs/source-date-epoch/ */
function pageDate(): Date {
  const epoch = Number(process.env.SOURCE_DATE_EPOCH);
  return epoch > 0 ? new Date(epoch * 1000) : new Date();
}
