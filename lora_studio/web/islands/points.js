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

// `made` units of a composition come with a byte per source, 255 = all of the unit; `row` tells
// which of them a point is, -1 for the units of the sources themselves.
export function readPoints(buffer, n, sources, made) {
  const each = FIELDS.reduce((sum, [, kind]) => sum + kind.BYTES_PER_ELEMENT, 0);
  const expected = n * each + made * sources;
  if (buffer.byteLength !== expected)
    throw new Error("The map file is damaged. Cluster again to draw it.");
  const points = { n };
  let offset = 0;
  for (const [name, Kind] of FIELDS) {
    points[name] = new Kind(buffer.slice(offset, offset + n * Kind.BYTES_PER_ELEMENT));
    offset += n * Kind.BYTES_PER_ELEMENT;
  }
  points.sources = sources;
  points.shares = new Uint8Array(buffer.slice(offset));
  let row = 0;
  points.row = Int32Array.from(points.adapter, (adapter) => (adapter < sources ? -1 : row++));
  return points;
}

// Sizes of the groups of one field, by group: [[group, size], ...].
export function groupsOf(values) {
  const sizes = new Map();
  for (const value of values) sizes.set(value, (sizes.get(value) || 0) + 1);
  return [...sizes].sort((a, b) => a[0] - b[0]);
}
