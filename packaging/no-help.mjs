// In place of the packages by which yargs lays out its help, which vproxy does not use: they take 25 ms to load.
export default function layOut() {
  throw new Error('yargs makes no help here');
}
