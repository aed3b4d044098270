// In place of y18n, which finds translations in files: yargs speaks English in vproxy.
const { format } = require('node:util');
module.exports = () => ({
  __: format,
  __n: (one, many, count, ...values) => format(count === 1 ? one : many, ...values),
  setLocale() {},
});
