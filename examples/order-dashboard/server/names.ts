/** What the made-up shop sells, and the people and places it sells to. Bestsellers first. */
export const catalog: readonly (readonly [name: string, category: string, price: number])[] = [
  ["Enamel mug, sea green", "Kitchen", 14.5],
  ["Merino crew socks", "Clothing", 18],
  ["Beeswax candle", "Home", 22],
  ["Field notebook, dotted", "Stationery", 12],
  ["Single-origin coffee, 500 g", "Pantry", 16.9],
  ["Waxed canvas tote", "Bags", 64],
  ["Linen tea towel", "Kitchen", 15],
  ["Sea salt flakes", "Pantry", 7.5],
  ["Fisherman's beanie", "Clothing", 32],
  ["Pour-over dripper", "Kitchen", 38],
  ["Cedar soap bar", "Home", 9.5],
  ["Wool throw, herringbone", "Home", 129],
  ["Brass pencil sharpener", "Stationery", 11],
  ["Striped sailor shirt", "Clothing", 58],
  ["Heather honey", "Pantry", 13.2],
  ["Stoneware bowl", "Kitchen", 27],
  ["Leather key loop", "Bags", 19],
  ["Cast-iron skillet, 24 cm", "Kitchen", 72],
  ["Rain shell, slate", "Clothing", 189],
  ["Storm lantern", "Home", 85],
  ["Oak serving board", "Kitchen", 46],
  ["Roll-top backpack", "Bags", 148],
  ["Fountain pen, fine", "Stationery", 54],
  ["Smoked almonds", "Pantry", 8.4],
  ["Chunky roll-neck jumper", "Clothing", 142],
  ["Olive oil, first press", "Pantry", 24.5],
  ["Weekend holdall", "Bags", 235],
  ["Letterpress calendar", "Stationery", 26],
  ["Sheepskin slippers", "Clothing", 79],
  ["Stovetop kettle", "Kitchen", 96],
  ["Driftwood frame", "Home", 41],
  ["Linen bed set", "Home", 264],
  ["Hand-bound journal", "Stationery", 48],
  ["Oyster knife", "Kitchen", 34],
  ["Cork yoga mat", "Home", 88],
  ["Travel wash bag", "Bags", 56],
  ["Seaweed crackers", "Pantry", 6.2],
  ["Deck chair, canvas", "Home", 118],
  ["Wool overcoat", "Clothing", 389],
  ["Copper saucepan", "Kitchen", 156],
];

export const givenNames = [
  "Ada", "Amara", "Anika", "Björn", "Camille", "Chidi", "Clara", "Daniel", "Elif", "Emil", "Fatima", "Felix", "Greta",
  "Hana", "Hugo", "Ines", "Ivo", "Jonas", "Kaya", "Kwame", "Lars", "Leila", "Lucía", "Mateo", "Maya", "Mina", "Nadia",
  "Nils", "Noor", "Olga", "Oscar", "Priya", "Rafael", "Rosa", "Sam", "Selma", "Sofia", "Tariq", "Theo", "Yuki", "Zoë",
] as const;

export const familyNames = [
  "Adeyemi", "Andersson", "Bakker", "Becker", "Bianchi", "Carvalho", "Chen", "Costa", "Dubois", "Eriksen", "Fischer",
  "García", "Haddad", "Hansen", "Ito", "Jansen", "Kaplan", "Keller", "Kowalski", "Laurent", "Lindqvist", "Mensah",
  "Moreau", "Müller", "Nakamura", "Novak", "Okafor", "Patel", "Petrov", "Rossi", "Sato", "Schmidt", "Silva", "Sørensen",
  "Tanaka", "Torres", "Varga", "Weber", "Yılmaz", "Zhang",
] as const;

export const cities: readonly (readonly [city: string, country: string])[] = [
  ["Amsterdam", "NL"], ["Antwerp", "BE"], ["Barcelona", "ES"], ["Bergen", "NO"], ["Berlin", "DE"], ["Bologna", "IT"],
  ["Bordeaux", "FR"], ["Bristol", "GB"], ["Copenhagen", "DK"], ["Cork", "IE"], ["Edinburgh", "GB"], ["Gdańsk", "PL"],
  ["Ghent", "BE"], ["Gothenburg", "SE"], ["Hamburg", "DE"], ["Helsinki", "FI"], ["Lisbon", "PT"], ["Ljubljana", "SI"],
  ["Lyon", "FR"], ["Malmö", "SE"], ["Nantes", "FR"], ["Porto", "PT"], ["Prague", "CZ"], ["Rotterdam", "NL"],
  ["Tallinn", "EE"], ["Trieste", "IT"], ["Utrecht", "NL"], ["Valencia", "ES"], ["Vienna", "AT"], ["Zürich", "CH"],
];
