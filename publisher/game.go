package publisher

import "math/rand/v2"

// A room is a field of so many steps square with so many players in it.
const (
	fieldSize   = 100
	roomPlayers = 4
)

// games are rooms where players walk about. Each move goes to the player's
// channel; now and then the whole room goes to the room's.
type games struct{ rooms []room }

type room struct {
	id      string
	moves   int
	players []gamePlayer
}

type gamePlayer struct {
	ID string `json:"playerId"`
	X  int    `json:"x"`
	Y  int    `json:"y"`
}

type moveEvent struct {
	Type string `json:"type"`
	stamp
	RoomID string `json:"roomId"`
	gamePlayer
}

type stateEvent struct {
	Type string `json:"type"`
	stamp
	RoomID  string       `json:"roomId"`
	Moves   int          `json:"moves"`
	Players []gamePlayer `json:"players"`
}

func newGames(size int) scenario {
	return &games{each(names(size, "room"), func(id string) room {
		return room{id: id, players: each(names(roomPlayers, "p"), func(p string) gamePlayer {
			return gamePlayer{ID: p, X: fieldSize / 2, Y: fieldSize / 2}
		})}
	})}
}

func (s *games) next(r *rand.Rand) act {
	g := pick(r, s.rooms)
	if r.IntN(roomPlayers+1) == 0 {
		// The slice is encoded before the next move changes it.
		return act{channel: "game:" + g.id, data: &stateEvent{Type: "game-state", RoomID: g.id, Moves: g.moves, Players: g.players}}
	}
	p := pick(r, g.players)
	g.moves++
	p.X = min(fieldSize, max(0, p.X+between(r, -3, 3)))
	p.Y = min(fieldSize, max(0, p.Y+between(r, -3, 3)))
	return act{channel: "game:" + g.id + ":" + p.ID, data: &moveEvent{Type: "player-move", RoomID: g.id, gamePlayer: *p}}
}
