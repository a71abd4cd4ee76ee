// Which points share a hue, which cluster a point is in, and which points a choice lights.

import { adapterTitle, sameCluster } from "./clusters.js";
import { groupsOf } from "./points.js";
import { RESULT, isResult, owner } from "./owners.js";

export const HUES = 6;

// By cluster the six strongest have a hue (clusters are numbered by falling energy); by adapter it
// is the hue of the basket. Others are grey. A unit of the result counts as its owner's, and in
// no size but its own.
export function grouping(points, value, by, basket) {
  const byCluster = by === "cluster";
  const field = byCluster
    ? points.cluster
    : Int32Array.from(points.adapter, (mine, i) =>
        isResult(points, i) ? owner(points, i).source : mine,
      );
  const order = groupsOf(field.filter((_, i) => !isResult(points, i)));
  const places = new Map();
  for (const [group] of order) {
    const id = (value.adapters[group] || {}).id;
    const hue = byCluster ? places.size : basket.findIndex((row) => row.id === id);
    if (hue >= 0 && hue < HUES) places.set(group, hue);
  }
  const legend = order
    .filter(([group]) => places.has(group))
    .map(([group, size]) => ({
      place: places.get(group),
      size,
      title: byCluster ? `Cluster ${group + 1}` : adapterTitle(value, group),
    }));
  const rest = order.filter(([group]) => !places.has(group));
  if (rest.length) {
    const size = rest.reduce((sum, [, members]) => sum + members, 0);
    legend.push({ place: -2, size, title: `${rest.length} more, in grey` });
  }
  if (value.result)
    legend.push({ place: RESULT, size: value.result.n, title: "Units of the result" });
  return {
    legend,
    places: byCluster ? places : new Map(),
    group: Int16Array.from(field, (member) => (places.has(member) ? places.get(member) : -1)),
  };
}

// The cluster of a point; one too weak for the table is counted here.
export function clusterOf(points, value, index) {
  const found = {
    cluster: points.cluster[index],
    module: (value.all_modules || [])[points.module[index]] || value.module || "",
  };
  const known = (value.clusters || []).find((item) => sameCluster(item, found));
  if (known) return known;
  const mine = (i) =>
    !isResult(points, i) &&
    points.cluster[i] === found.cluster && points.module[i] === points.module[index];
  let size = 0;
  for (let i = 0; i < points.n; i += 1) size += Number(mine(i));
  return { ...found, size, energy: NaN };
}

// Per point, 1 if it belongs to the cluster or, without one, to that entry of the legend.
export function litBy(points, value, group, cluster, place) {
  if (!cluster && place === RESULT)
    return Uint8Array.from(group, (_, i) => Number(isResult(points, i)));
  if (!cluster) return place < 0 ? null : Uint8Array.from(group, (mine) => Number(mine === place));
  const module = cluster.module ? (value.all_modules || []).indexOf(cluster.module) : -1;
  return Uint8Array.from(points.cluster, (mine, i) =>
    Number(mine === cluster.cluster && (module < 0 || points.module[i] === module)),
  );
}
