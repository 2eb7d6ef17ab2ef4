package bridge

// window is the messages sent and not acknowledged yet, in order of their
// numbers. It is bounded by its user.
type window struct {
	list  []message
	head  int
	bytes int64
	done  position // of the last one taken out: everything up to there is stored
}

func (w *window) len() int { return len(w.list) - w.head }

func (w *window) at(i int) *message { return &w.list[w.head+i] }

func (w *window) push(m message) {
	if w.head > 1<<10 && w.head > len(w.list)/2 {
		n := copy(w.list, w.list[w.head:])
		clear(w.list[n:])
		w.list, w.head = w.list[:n], 0
	}
	w.list = append(w.list, m)
	w.bytes += m.size()
}

func (w *window) pop() {
	w.bytes -= w.at(0).size()
	w.done = w.at(0).place
	*w.at(0) = message{}
	if w.head++; w.head == len(w.list) {
		w.list, w.head = w.list[:0], 0
	}
}

// renumber gives all messages numbers that go on from *number.
func (w *window) renumber(number *uint64) {
	for i := range w.len() {
		*number++
		w.at(i).number = *number
	}
}

func (w *window) clear() int {
	n := w.len()
	*w = window{}
	return n
}
