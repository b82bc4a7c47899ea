//! Everything that exists in Tinytown. Two hundred words or so: small enough that a model of a few million parameters
//! meets each of them thousands of times.

/// The people. No name is a common English word, and none begins another.
pub(super) const PEOPLE: [&str; 24] = [
    "Anna", "Ben", "Clara", "Dan", "Emma", "Finn", "Hugo", "Ida", "Jack", "Kate", "Leo", "Mia", "Noah",
    "Olga", "Paul", "Rosa", "Sam", "Tom", "Una", "Vera", "Wanda", "Max", "Zoe", "Greta",
];

/// Things one person can hold.
pub(super) const OBJECTS: [&str; 24] = [
    "ball", "book", "cup", "hat", "kite", "lamp", "bell", "box", "drum", "coin", "doll", "key", "map", "pen",
    "ring", "rope", "shoe", "spoon", "flute", "clock", "scarf", "basket", "button", "boat",
];

/// Places to be in.
pub(super) const PLACES: [&str; 16] = [
    "park", "school", "kitchen", "garden", "market", "barn", "library", "mill", "forest", "bakery",
    "station", "tower", "church", "shop", "cellar", "stable",
];

/// Colours.
pub(super) const COLOURS: [&str; 8] = ["red", "blue", "green", "yellow", "white", "black", "brown", "pink"];

/// Things to count and to like: one, many.
pub(super) const FOODS: [(&str, &str); 12] = [
    ("apple", "apples"),
    ("egg", "eggs"),
    ("nut", "nuts"),
    ("plum", "plums"),
    ("pear", "pears"),
    ("bean", "beans"),
    ("cake", "cakes"),
    ("fig", "figs"),
    ("grape", "grapes"),
    ("carrot", "carrots"),
    ("onion", "onions"),
    ("cherry", "cherries"),
];

/// `3 apples`, `1 apple`.
pub(super) fn amount(number: usize, food: usize) -> String {
    let (one, many) = FOODS[food];
    format!("{number} {}", if number == 1 { one } else { many })
}
