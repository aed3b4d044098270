/** For `sortTestFiles` of AVA: files of these names first, in this order; then those whose names say that they are slow. */
export function longestFirst(...lines) {
  const names = lines.join(' ').split(' ');
  const rankOf = (path) => {
    const rank = names.findIndex((name) => path.endsWith(`/${name}.spec.js`));
    if (rank !== -1) return rank;
    return path.endsWith('.slow.spec.js') ? names.length : names.length + 1;
  };
  return (one, other) => rankOf(one) - rankOf(other);
}
