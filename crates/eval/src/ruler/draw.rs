//! What is drawn for an item: names, numbers, UUIDs, letters, depths; none of them twice.

use std::collections::BTreeSet;

use smolt_run::random::Stream;

/// What a key or a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sort {
    /// Seven digits.
    Number,
    /// An adjective and a noun, joined.
    Word,
    /// 32 hexadecimal digits in five groups.
    Uuid,
}

impl Sort {
    /// Its name in a prompt.
    pub(super) fn name(self, plural: bool) -> &'static str {
        match (self, plural) {
            (Self::Number, false) => "number",
            (Self::Number, true) => "numbers",
            (Self::Word, false) => "word",
            (Self::Word, true) => "words",
            (Self::Uuid, false) => "UUID",
            (Self::Uuid, true) => "UUIDs",
        }
    }
}

/// Draws of one item.
pub(super) struct Draw {
    pub(super) stream: Stream,
    used: BTreeSet<String>,
    adjectives: Vec<&'static str>,
    nouns: Vec<&'static str>,
}

impl Draw {
    pub(super) fn new(stream: Stream) -> Self {
        Self { stream, used: BTreeSet::new(), adjectives: words(ADJECTIVES), nouns: words(NOUNS) }
    }

    /// A key or a value that was not drawn before.
    pub(super) fn one(&mut self, sort: Sort) -> String {
        loop {
            let drawn = match sort {
                Sort::Number => (1_000_000 + self.stream.below(9_000_000)).to_string(),
                Sort::Word => self.name(),
                Sort::Uuid => self.uuid(),
            };
            if self.used.insert(drawn.clone()) {
                return drawn;
            }
        }
    }

    /// Two words, or three where most pairs have been drawn.
    fn name(&mut self) -> String {
        let Self { stream, used, adjectives, nouns } = self;
        let mut pick = |words: &[&'static str]| stream.choose(words).copied().unwrap_or_default();
        let pair = format!("{}-{}", pick(adjectives), pick(nouns));
        if used.len() * 2 < adjectives.len() * nouns.len() {
            return pair;
        }
        format!("{}-{pair}", pick(adjectives))
    }

    /// Random bits in the layout of version 4 (RFC 9562).
    fn uuid(&mut self) -> String {
        let bits = (u128::from(self.stream.next_u64()) << 64) | u128::from(self.stream.next_u64());
        let bits = (bits & !(0xF << 76) & !(0x3 << 62)) | (0x4 << 76) | (0x2 << 62);
        let digits = format!("{bits:032x}");
        format!(
            "{}-{}-{}-{}-{}",
            &digits[..8],
            &digits[8..12],
            &digits[12..16],
            &digits[16..20],
            &digits[20..]
        )
    }

    /// So many letters from `first` on in the alphabet, which were not drawn before.
    pub(super) fn letters(&mut self, count: usize, first: u8) -> String {
        loop {
            let drawn: String = (0..count).map(|_| char::from(first + self.stream.below(26) as u8)).collect();
            if self.used.insert(drawn.clone()) {
                return drawn;
            }
        }
    }

    /// So many of 40 depths that lie evenly between 0 and 1, ascending; beyond 40, some of them again.
    pub(super) fn depths(&mut self, count: usize) -> Vec<f64> {
        let mut depths: Vec<u32> = (0..40).collect();
        self.stream.shuffle(&mut depths);
        let mut depths: Vec<u32> = depths.into_iter().cycle().take(count).collect();
        depths.sort_unstable();
        depths.into_iter().map(|depth| f64::from(depth) / 39.0).collect()
    }
}

/// The words of a list.
pub(super) fn words(list: &'static str) -> Vec<&'static str> {
    list.split_ascii_whitespace().collect()
}

/// Adjectives of names.
pub(super) const ADJECTIVES: &str = "
able amber ample ancient angry autumn awake bare bitter blank bold brave brief bright brisk broad broken busy calm
careful cheap chilly civil clean clear clever close cloudy coarse common cool crooked curious damp daring dark dear
deep dense dim distant double dry dull dusty eager early easy empty even exact faded faint fair famous fancy far fast
fierce final fine firm fleet fluffy foggy fond free fresh friendly frosty full gentle giant glad golden grand grateful
grave great greedy green grim handy happy hard hasty heavy hidden high hollow honest huge humble hungry idle jolly keen
kind large late lazy lean light little lively local lone long loose loud lovely loyal lucky mellow merry mighty mild
modest narrow neat noble noisy odd old open orderly pale patient plain pleasant polite poor proud quick quiet rapid
rare ready rich ripe rough round royal rusty sad safe salty scarce secret shallow sharp shiny short shy silent silver
simple slender slow small smooth soft solid sour spare stale steady steep stern stiff still stout strange strict strong
sturdy subtle sudden sunny sweet swift tall tame tender thick thin thirsty tidy tight timid tiny tough true upper useful
vague vast warm wary weary wet whole wide wild windy wise wooden worn young zealous
";

/// Nouns of names.
pub(super) const NOUNS: &str = "
acorn alley anchor ankle anvil apple apron arch arrow aunt axle badge bakery balcony balloon bamboo banjo banner barley
barn barrel basin basket beacon beam bean bell belt bench berry bicycle blanket blossom boat bolt bonnet book boot bottle
bowl branch brass bread brick bridge broom brush bucket buckle bugle bush butter button cabin cable camel candle canoe
canvas captain carpet carrot cart castle cattle cave cellar chain chair chalk cheese cherry chest chimney circle cliff
cloak clock cloth cloud clover coast coat comb compass copper coral corn corner cottage cotton couch cousin cradle crane
crow crown cup curtain cushion daisy dawn desert desk diamond dish ditch dock door dove drawer drum duck eagle easel
elbow engine envelope falcon farmer feather fence fern ferry fiddle field finger flag flame flask flock flour flower
flute forest fork fountain fox frame frog garden garlic gate glacier glass glove goat goose grain grape grass guitar
hammer harbor harp hat hawk hay hazel hedge helmet heron hill hinge honey hood hook horn horse island ivory ivy jacket
jar jewel jug kettle key kitchen kite knee knife ladder lake lamp lantern lawn leaf leather lemon letter lever lily lime
linen lion lizard loaf lock loom magnet mango maple marble market mask meadow melon mill mirror mitten monk moon mortar
moss motor mountain mouse museum mushroom nail napkin needle nest net nurse oak oar ocean olive onion orange orchard
organ otter oven owl paddle palace pan paper parcel parrot path peach pear pearl pebble pencil pepper piano pigeon pillar
pillow pilot pine pipe pitcher planet plank plate plow plum pocket pond poppy porch potato pump puppet purse quarry
quill quilt rabbit raft rail rake raven ribbon river road robe robin rocket roof rope rose rudder sack saddle sail
sailor salmon sand sandal sausage saw scale scarf school scissors seed shadow sheep shelf shell shield ship shirt shoe
shore shovel shutter sickle sign silk singer sleeve slipper snail soap sock soup spade sparrow spear spider spoon spring
square stable stair star station statue steam stone stool stove straw stream string sugar swan sword table tailor
teacher temple tent theater thimble thread throne thumb ticket tiger timber tomato torch towel tower trail train tray
treasure tree trumpet trunk tulip tunnel turnip turtle twig uncle valley vase vessel village vine violet violin wagon
wall walnut watch water wave wax weaver well whale wheat wheel whistle willow window wing winter wolf wool yarn zebra
";

/// Verbs, for lists of words.
pub(super) const VERBS: &str = "
accept admire agree allow answer appear arrange arrive attend avoid bake balance become begin believe belong blend borrow
bounce breathe bring build burn call carry catch change chase choose climb collect compare complain consider continue
cook copy count cover crawl create cross dance decide deliver depend describe design discover divide draw dream drift
drink drive earn enjoy enter escape examine expect explain explore fasten fetch fill find finish float fly fold follow
forget forgive gather give glow grow guard guess guide hear help hesitate hide hold hope hurry imagine improve include
invent invite join jump knit know laugh launch lead learn leave lend lift listen lose manage measure meet melt mend mix
move notice obey observe offer order paint pause perform plant play point polish pour practice praise prepare press
prevent promise protect prove pull push raise reach read receive recover remain remember remind repair repeat replace
reply rescue return ride roll run scatter search seem send serve settle shake share shine shout show sing sink sit
sleep slide smile solve speak spell spend spill spin spread stand start stay steer stop stretch study support suppose
surprise swim swing talk taste teach tell thank think throw tie touch trade travel trust try turn understand unite
visit wait wake walk wander warn wash wear weigh whisper win wish wonder work worry wrap write yawn yield
";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_is_in_a_list_twice() {
        for list in [ADJECTIVES, NOUNS, VERBS] {
            let words = words(list);
            let distinct: BTreeSet<_> = words.iter().collect();
            let twice: Vec<_> =
                words.iter().filter(|w| words.iter().filter(|v| v == w).count() > 1).collect();
            assert_eq!(distinct.len(), words.len(), "{twice:?}");
            assert!(words.len() > 200);
        }
    }

    #[test]
    fn draws_do_not_repeat_even_where_few_are_left() {
        let mut draw = Draw::new(Stream::new(1, "draws", 0));
        let pairs = words(ADJECTIVES).len() * words(NOUNS).len();
        let names: BTreeSet<String> = (0..pairs).map(|_| draw.one(Sort::Word)).collect();
        assert_eq!(names.len(), pairs);
        let numbers: BTreeSet<String> = (0..10_000).map(|_| draw.one(Sort::Number)).collect();
        assert!(numbers.len() == 10_000 && numbers.iter().all(|number| number.len() == 7));
    }

    #[test]
    fn uuids_have_their_layout() {
        let mut draw = Draw::new(Stream::new(1, "draws", 0));
        for _ in 0..100 {
            let uuid = draw.one(Sort::Uuid);
            let groups: Vec<usize> = uuid.split('-').map(str::len).collect();
            assert_eq!(groups, [8, 4, 4, 4, 12]);
            assert!(uuid.as_bytes()[14] == b'4' && b"89ab".contains(&uuid.as_bytes()[19]), "{uuid}");
        }
    }

    #[test]
    fn depths_ascend_from_end_to_end() {
        let mut draw = Draw::new(Stream::new(1, "draws", 0));
        let four = draw.depths(4);
        assert!(four.windows(2).all(|pair| pair[0] < pair[1]), "{four:?}");
        let all = draw.depths(41);
        assert!(all[0] == 0.0 && all[40] == 1.0 && all.len() == 41);
    }
}
