import { SecretKey } from '../../nix/key.ts';
import { readSecretKey, readSecretKeyFile, writeSecretKeyFile } from '../../nix/key-file.ts';
import { argument } from '../arguments.ts';
import { Command } from '../command.ts';

export function keyCommand(): Command {
  return new Command('key')
    .summary('make keys for signing store paths')
    .description("Makes keys for signing store paths (ed25519, in Nix's formats).")
    .example('tvix-store key generate --file secret cache.example.org-1')
    .addCommand(generateCommand())
    .addCommand(publicCommand());
}

function generateCommand(): Command {
  return new Command('generate')
    .summary('make a secret key')
    .description('Makes a secret key and prints it. With --file, writes it there and prints the public key.')
    .argument(
      '<NAME>',
      'name of the key, without colons or white space; usually a host name, a dash and a number',
    )
    .option('--file <file>', 'a new file for the secret key, which only its owner can read')
    .example('tvix-store key generate --file secret cache.example.org-1')
    .action(async (name: string, { file }: { file?: string }) => {
      const key = argument(() => SecretKey.generate(name));
      if (file !== undefined) await writeSecretKeyFile(file, key);
      process.stdout.write(`${file === undefined ? key.secret() : key.publicKey}\n`);
    });
}

function publicCommand(): Command {
  return new Command('public')
    .summary('print the public key of a secret key')
    .description('Prints the public key that belongs to a secret key, for use in trusted-public-keys.')
    .option('--file <file>', 'read the secret key from this file (default: standard input)')
    .example('tvix-store key public --file secret')
    .action(async ({ file }: { file?: string }) => {
      const key = await (file === undefined ? readSecretKey(process.stdin) : readSecretKeyFile(file));
      process.stdout.write(`${key.publicKey}\n`);
    });
}
