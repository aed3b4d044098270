// In place of packages that others load and vproxy does not use: cliui and string-width lay out the help of yargs, and take 25 ms
// to load; text-decoder is for streams of text.
module.exports = function unused() {
  throw new Error('this package is not in the bundle');
};
