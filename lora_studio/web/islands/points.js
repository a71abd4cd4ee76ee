// The point file of a map: parallel arrays, little endian, in the order the studio writes them.

const FIELDS = [
  ["x", Float32Array],
  ["y", Float32Array],
  ["energy", Float32Array],
  ["cluster", Uint16Array],
  ["adapter", Uint16Array],
  ["module", Uint16Array],
  ["unit", Uint16Array],
];

export function readPoints(buffer, n) {
  const expected = n * FIELDS.reduce((sum, [, kind]) => sum + kind.BYTES_PER_ELEMENT, 0);
  if (buffer.byteLength !== expected)
    throw new Error("The map file is damaged. Cluster again to draw it.");
  const points = { n };
  let offset = 0;
  for (const [name, Kind] of FIELDS) {
    points[name] = new Kind(buffer.slice(offset, offset + n * Kind.BYTES_PER_ELEMENT));
    offset += n * Kind.BYTES_PER_ELEMENT;
  }
  return points;
}

// Sizes of the groups of one field, by group: [[group, size], ...].
export function groupsOf(values) {
  const sizes = new Map();
  for (const value of values) sizes.set(value, (sizes.get(value) || 0) + 1);
  return [...sizes].sort((a, b) => a[0] - b[0]);
}
