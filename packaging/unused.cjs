'use strict';
// In place of modules that others load and vproxy does not use, such as text-decoder, which is for streams of text.
module.exports = function unused() {
  throw new Error('this package is not in the bundle');
};
