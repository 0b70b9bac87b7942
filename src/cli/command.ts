import type { Help } from 'commander';
import { Command as CommanderCommand } from 'commander';
import { UsageError } from '../util/errors.ts';
import { CommandHelp } from './help.ts';

type Action = Parameters<CommanderCommand['action']>[0];
type ErrorOptions = Parameters<CommanderCommand['error']>[1];

/** A command of this program: it has examples, and wrong usage of it ends in a pointer to its help. */
export class Command extends CommanderCommand {
  readonly examples: string[] = [];

  constructor(name?: string) {
    super(name);
    // Wrong usage is thrown, not answered by exiting: run.ts gives it its exit code.
    this.exitOverride();
  }

  /** Adds lines to the examples in the help. */
  example(...lines: readonly string[]): this {
    this.examples.push(...lines);
    return this;
  }

  /** The words that call this command, `tvix-store root add` for instance. */
  get fullName(): string {
    return this.parent instanceof Command ? `${this.parent.fullName} ${this.name()}` : this.name();
  }

  override createHelp(): Help {
    return new CommandHelp();
  }

  override action(run: Action): this {
    return super.action(async (...args) => {
      try {
        await run.apply(this, args);
      } catch (error) {
        if (error instanceof UsageError) this.error(`error: ${error.message}`);
        throw error;
      }
    });
  }

  override error(message: string, options?: ErrorOptions): never {
    return super.error(`${message}\n(see ${this.fullName} --help)`, options);
  }
}
