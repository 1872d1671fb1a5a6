package oracle

import "slices"

// cell is a patch of states.
type cell struct{ edge, link int64 }

// thin keeps the cheapest label of each patch: what is left can be reached, but the best may be gone.
func thin(labels []label, limit int) []label {
	return patch(labels, limit, func(kept, other label) label {
		if other.cost < kept.cost {
			return other
		}
		return kept
	})
}

// relax makes one label of each patch that is as good as all of them: nothing better is gone, but what is left may be
// better than what can be reached.
func relax(labels []label, limit int) []label {
	return patch(labels, limit, func(kept, other label) label {
		from := kept.from
		if other.cost < kept.cost {
			from = other.from
		}
		return label{min(kept.edge, other.edge), min(kept.link, other.link), min(kept.cost, other.cost), from}
	})
}

// patch joins the labels of a patch, with patches that grow until there are few enough. Half of the limit leaves room
// for the tasks that follow.
func patch(labels []label, limit int, join func(kept, other label) label) []label {
	edge, link := 0.5, 16.0 // Mcycles and bytes, each a fraction of a millisecond
	for len(labels) > limit/2 {
		at := make(map[cell]int, limit)
		kept := labels[:0]
		for _, l := range labels {
			c := cell{int64(l.edge / edge), int64(l.link / link)}
			if k, ok := at[c]; ok {
				kept[k] = join(kept[k], l)
				continue
			}
			at[c] = len(kept)
			kept = append(kept, l)
		}
		labels = kept
		edge, link = edge*1.5, link*1.5
	}
	slices.SortFunc(labels, func(a, b label) int {
		switch {
		case a.edge < b.edge:
			return -1
		case a.edge > b.edge:
			return 1
		}
		return 0
	})
	return labels
}
