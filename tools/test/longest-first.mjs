/** For `sortTestFiles` of AVA: first these files, in this order; then those with `slow` in their names. */
export function longestFirst(...lines) {
  const names = lines.join(' ').split(' ');
  const rankOf = (path) => {
    const rank = names.findIndex((name) => path.endsWith(`/${name}.spec.js`));
    if (rank !== -1) return rank;
    return path.endsWith('.slow.spec.js') ? names.length : names.length + 1;
  };
  return (one, other) => rankOf(one) - rankOf(other);
}
