// Word difference against another text: [{text, same}] for the words of `mine`.

const MOST = 400;

export function wordDiff(base, mine) {
  const a = base.split(/\s+/).filter(Boolean).slice(0, MOST);
  const b = mine.split(/(\s+)/).slice(0, 2 * MOST);
  const words = b.filter((part) => part.trim());
  const table = Array.from({ length: a.length + 1 }, () => new Uint16Array(words.length + 1));
  for (let i = a.length - 1; i >= 0; i -= 1) {
    for (let j = words.length - 1; j >= 0; j -= 1) {
      table[i][j] =
        a[i] === words[j] ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
    }
  }
  const same = new Array(words.length).fill(false);
  for (let i = 0, j = 0; i < a.length && j < words.length;) {
    if (a[i] === words[j]) {
      same[j] = true;
      i += 1;
      j += 1;
    } else if (table[i + 1][j] >= table[i][j + 1]) i += 1;
    else j += 1;
  }
  let place = 0;
  return b.map((text) => (text.trim() ? { text, same: same[place++] } : { text, same: true }));
}
