import { Command } from 'commander';
import { SecretKey } from '../../nix/key.ts';
import { readSecretKey, readSecretKeyFile, writeSecretKeyFile } from '../../nix/key-file.ts';

export function keyCommand(): Command {
  return new Command('key')
    .summary('make keys that sign store paths')
    .description("Makes keys that sign store paths (ed25519, in Nix's formats).")
    .addHelpText('after', '\nExample:\n  tvix-store key generate --file secret cache.example.org-1')
    .addCommand(generateCommand())
    .addCommand(publicCommand());
}

function generateCommand(): Command {
  return new Command('generate')
    .summary('make a secret key')
    .description('Makes a secret key and prints it. With --file, writes it there and prints the public key.')
    .argument(
      '<NAME>',
      'what it is called, without a colon or white space: usually a host name, a dash and a number',
    )
    .option('--file <file>', 'a new file for the secret key, which only its owner can read')
    .addHelpText('after', '\nExample:\n  tvix-store key generate --file secret cache.example.org-1')
    .action(async (name: string, { file }: { file?: string }) => {
      const key = SecretKey.generate(name);
      if (file !== undefined) await writeSecretKeyFile(file, key);
      process.stdout.write(`${file === undefined ? key.secret() : key.publicKey}\n`);
    });
}

function publicCommand(): Command {
  return new Command('public')
    .summary('tell the public key of a secret one')
    .description('Prints the public key of a secret key, for trusted-public-keys.')
    .option('--file <FILE>', 'where the secret key is (default: standard input)')
    .addHelpText('after', '\nExample:\n  tvix-store key public --file secret')
    .action(async ({ file }: { file?: string }) => {
      const key = await (file === undefined ? readSecretKey(process.stdin) : readSecretKeyFile(file));
      process.stdout.write(`${key.publicKey}\n`);
    });
}
