/** Tests find the same surroundings whoever runs them; what they start inherits these. */
export function setup(): void {
  // Other users are to reach what a test gives them.
  process.umask(0o022);
  // What `ls` or `cat` says of an error is compared.
  process.env.LC_ALL = 'C.UTF-8';
}
