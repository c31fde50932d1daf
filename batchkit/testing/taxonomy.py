"""The forty product categories of the generated catalog, in eight languages.

Data only. Each category has the nouns that titles are made of, further words
that give it away, a few feature phrases and the names that careless suppliers
use for it. Phrases are comma separated; a phrase of several words is recognised
by its last two.

`CATEGORIES` is what a contract's ``category`` may hold. ``Adapters`` and
``Chargers`` are the two neighbours that the simulated model confuses.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

__all__ = ["CATEGORIES", "LANGUAGES", "TAXONOMY", "Category", "category_of_source"]

LANGUAGES: tuple[str, ...] = ("en", "de", "fr", "es", "zh", "ja", "ar", "ru")


def _phrases(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())


@attrs.frozen
class Category:
    """One category: its name, its words in each language, its phrases.

    Attributes:
        name: The value that a contract allows.
        source_names: What suppliers call it, tidy name first.
        nouns: Title nouns by language code.
        keywords: Further English words that give the category away.
        features: English feature phrases, each under 60 characters.
    """

    name: str
    source_names: tuple[str, ...] = attrs.field(converter=_phrases, kw_only=True)
    nouns: Mapping[str, tuple[str, ...]] = attrs.field(kw_only=True)
    keywords: tuple[str, ...] = attrs.field(converter=_phrases, kw_only=True)
    features: tuple[str, ...] = attrs.field(converter=_phrases, kw_only=True)


def _category(name: str, source: str, nouns: tuple[str, ...], keywords: str, features: str) -> Category:
    """Build one category; ``nouns`` follows the order of `LANGUAGES`."""
    by_language = {language: _phrases(words) for language, words in zip(LANGUAGES, nouns, strict=True)}
    return Category(name, source_names=source, nouns=by_language, keywords=keywords, features=features)


TAXONOMY: tuple[Category, ...] = (
    _category(
        "Audio", "Home Audio, AUD, Elec > Sound",
        ("speaker, soundbar, amplifier, turntable", "Lautsprecher, Plattenspieler", "enceinte, platine vinyle",
         "altavoz, barra de sonido", "音箱, 扬声器", "スピーカー", "مكبر, سماعات خارجية", "колонка, усилитель"),
        "stereo, subwoofer, hifi, radio, microphone, harmonica, receiver, boombox",
        "deep bass, 20 W output, pairs with a second unit, splash proof, 12 hours of play, aux input",
    ),
    _category(
        "Cables", "Cables & Leads, CBL, Elec > Acc > Cables",
        ("cable, extension cord, patch cable", "Kabel, Ladekabel", "câble, cordon", "cable, cable trenzado",
         "数据线, 连接线", "ケーブル", "كابل, سلك", "кабель, шнур"),
        "cord, hdmi cable, charging cable, cables",
        "braided sleeve, gold plated contacts, 2 m long, tangle free, rated for 480 Mbps, strain relief",
    ),
    _category(
        "Chargers", "Chargers & Power, CHG, Elec > Acc > Chargers",
        ("wall charger, charger, car charger, charging station", "Ladegerät, Netzteil", "chargeur, chargeur secteur",
         "cargador, cargador de pared", "充电器", "充電器", "شاحن", "зарядное устройство, зарядка"),
        "power supply, charging pad, charging dock, wireless charger",
        "65 W output, two ports, overheat protection, foldable prongs, status light, GaN inside",
    ),
    _category(
        "Adapters", "Adapters & Converters, ADPT, Elec > Acc > Adapters",
        ("travel adapter, universal travel adapter, plug adapter, wall plug adapter, display adapter",
         "Reiseadapter, Steckeradapter, Reisestecker-Adapter, HDMI-Adapter",
         "adaptateur de voyage, adaptateur de prise, adaptateur vidéo",
         "adaptador de viaje, adaptador de enchufe, adaptador de vídeo", "旅行转换器, 转换插头", "旅行用変換プラグ, 変換アダプタ",
         "محول السفر, محول القابس", "дорожный адаптер, переходник для розетки"),
        "adapter, adaptor, converter, dongle, adaptateur, adaptador, محول, адаптер, переходник",
        "works in 150 countries, type C to type G, surge protection, two USB sockets, pocket size, 10 A fuse",
    ),
    _category(
        "Headphones", "Headphones & Earbuds, HDPH, Elec > Headsets",
        ("headphones, earbuds, headset", "Kopfhörer, Ohrhörer", "casque audio, écouteurs", "auriculares, audífonos",
         "耳机", "ヘッドホン, イヤホン", "سماعة رأس, سماعات", "наушники, гарнитура"),
        "headphone, earphone, earphones, in ear",
        "active noise cancelling, 30 hours per charge, soft ear pads, folds flat, in-line microphone button, low latency",
    ),
    _category(
        "Phones", "Cell Phones, PHN, Elec > Mobile",
        ("smartphone, mobile phone, cell phone", "Smartphone, Handy, Mobiltelefon", "téléphone portable, téléphone",
         "teléfono móvil, teléfono", "手机, 智能手机", "スマートフォン, 携帯電話", "هاتف ذكي, هاتف", "смартфон, телефон"),
        "phone, phones, iphone, prepaid, unlocked",
        "dual SIM, 128 GB memory, 6.1 inch screen, night mode camera, 5G ready, fingerprint unlock",
    ),
    _category(
        "Phone Cases", "Phone Covers, PHCASE, Elec > Mobile > Cases",
        ("phone case, phone cover, wallet case", "Handyhülle, Schutzhülle", "coque, étui pour téléphone", "funda, carcasa",
         "手机壳, 保护套", "スマホケース", "غطاء هاتف, جراب", "чехол"),
        "flip case, screen protector, iphone case, bumper case, smartphone case",
        "raised edges, clear back, shock absorbing corners, card slot, slim fit, matte finish",
    ),
    _category(
        "Computers", "Computers, COMP, Elec > PC",
        ("laptop, desktop computer, tablet, mini computer", "Laptop, Rechner", "ordinateur portable, ordinateur",
         "ordenador portátil, portátil", "笔记本电脑, 平板电脑, 电脑", "ノートパソコン, パソコン", "حاسوب محمول, حاسوب",
         "ноутбук, компьютер"),
        "notebook computer, computer, chromebook, laptops, pc, workstation, server",
        "16 GB of RAM, eight cores, backlit display lid, fanless, 1.2 kg, hinge opens flat",
    ),
    _category(
        "Monitors", "Monitors & Displays, MON, Elec > PC > Displays",
        ("monitor, curved monitor, computer monitor", "Monitor, Bildschirm", "moniteur, écran d'ordinateur",
         "monitor, monitor curvo", "显示器", "モニター", "شاشة حاسوب, شاشة", "монитор"),
        "projector, ultrawide, lcd monitor, monitors",
        "27 inch panel, 144 Hz refresh, 99 % sRGB, height adjustable stand, anti glare, VESA mount",
    ),
    _category(
        "Keyboards & Mice", "Input Devices, KBM, Elec > PC > Input",
        ("keyboard, mechanical keyboard, wireless mouse, trackball", "Tastatur, Maus", "clavier, souris sans fil",
         "teclado, ratón inalámbrico", "键盘, 鼠标", "キーボード, マウス", "لوحة مفاتيح, فأرة", "клавиатура, мышь"),
        "mouse, mousepad, mouse pad, touchpad, souris, ratón, mouses",
        "hot swappable switches, 1600 dpi, silent clicks, palm rest, media keys, splash resistant",
    ),
    _category(
        "Storage", "Data Storage, STO, Elec > PC > Drives",
        ("hard drive, flash drive, memory card, SSD", "Festplatte, Speicherkarte", "disque dur, clé USB",
         "disco duro, tarjeta de memoria", "硬盘, 存储卡", "外付けハードディスク, メモリーカード", "قرص صلب, ذاكرة فلاش",
         "жёсткий диск, флешка"),
        "microsd, nas, usb stick, disk drive, hard disk, backup drive, ssd",
        "1 TB capacity, 540 MB per second, shock rated shell, password lock, formatted exFAT, cap on a loop",
    ),
    _category(
        "Networking", "Network Gear, NET, Elec > PC > Network",
        ("router, wifi router, network switch, mesh extender", "WLAN-Router, Netzwerkswitch", "routeur, répéteur wifi",
         "enrutador, repetidor wifi", "路由器, 交换机", "ルーター", "موجه, جهاز توجيه", "маршрутизатор, роутер"),
        "modem, firewall, ethernet, access point, extender, wifi, netgear",
        "dual band, eight gigabit ports, guest mode, four antennas, parental controls, wall mountable",
    ),
    _category(
        "Printers", "Printers & Ink, PRT, Elec > Office > Print",
        ("printer, laser printer, ink cartridge, label printer", "Drucker, Tintenpatrone", "imprimante, cartouche d'encre",
         "impresora, cartucho de tinta", "打印机, 墨盒", "プリンター, インクカートリッジ", "طابعة, حبر طابعة", "принтер, картридж"),
        "toner, inkjet, scanner, laserjet, cartridge",
        "24 pages per minute, duplex, tray for 250 sheets, yields 3000 pages, reads originals to A4, quiet mode",
    ),
    _category(
        "Software", "Software, SW, Media > Software",
        ("software, accounting software, language course, antivirus software", "Steuerprogramm, Büroprogramm",
         "logiciel, logiciel de comptabilité", "programa informático, software de diseño", "软件", "ソフトウェア", "برنامج حاسوبي, برمجيات",
         "программное обеспечение, антивирус"),
        "windows, upgrade, cd rom, dvd rom, oem, license, licence, edition, antivirus, adobe",
        "one year subscription, three seats, download code, works offline, 64 bit, import wizard",
    ),
    _category(
        "Cameras", "Cameras & Optics, CAM, Elec > Photo",
        ("camera, action camera, webcam, camera lens", "Kamera, Objektiv", "appareil photo, caméra", "cámara, objetivo",
         "相机, 摄像头", "カメラ", "كاميرا, عدسة", "фотоаппарат, объектив"),
        "camcorder, tripod, lens, binoculars, dslr, lenses",
        "24 megapixels, optical zoom, image stabiliser, hot shoe, 4K at 60 frames, filter thread 52 mm",
    ),
    _category(
        "Televisions", "TV & Video, TV, Elec > Video",
        ("television, smart TV, TV wall mount", "Fernseher", "téléviseur", "televisor", "电视机, 电视", "テレビ",
         "تلفاز, تلفزيون", "телевизор"),
        "tv, hdtv, oled, blu ray, dvd player, streaming box, tvs",
        "55 inch, four HDMI inputs, dimming zones, voice remote, HDR10, bezel under 8 mm",
    ),
    _category(
        "Wearables", "Watches & Wearables, WEAR, Elec > Wearables",
        ("smartwatch, fitness tracker, wrist watch", "Smartwatch, Armbanduhr", "montre connectée, bracelet connecté",
         "reloj inteligente, pulsera de actividad", "智能手表, 手环", "スマートウォッチ, 腕時計", "ساعة ذكية, ساعة يد",
         "умные часы, фитнес-браслет"),
        "watch, watches, montre, pedometer, chronograph, heart rate",
        "heart sensor, sleep log, 5 ATM, swappable strap, GPS on board, always-on face",
    ),
    _category(
        "Gaming", "Video Games, GAME, Elec > Games",
        ("game controller, gaming console, video game", "Spielkonsole, Gamepad", "manette de jeu, jeu vidéo",
         "mando de juego, videojuego", "游戏机, 游戏手柄", "ゲーム機, コントローラー", "جهاز ألعاب, يد تحكم", "игровая приставка, геймпад"),
        "xbox, playstation, nintendo, joystick, console, gamepad, gaming",
        "rumble motors, two extra paddles, age rating 12, up to four players, online co-op, textured grip",
    ),
    _category(
        "Lighting", "Lamps & Bulbs, LIGHT, Home > Lighting",
        ("desk lamp, LED bulb, floor lamp, string lights", "Lampe, Leuchte", "lampe, ampoule", "lámpara, bombilla",
         "台灯, 灯泡", "電球, 照明ライト", "مصباح, لمبة", "лампа, светильник"),
        "lamp, lantern, torch, flashlight, chandelier, lampshade, night light, lights, bulb",
        "warm white, 806 lumens, three levels, E27 base, touch dimmer, flicker free",
    ),
    _category(
        "Batteries", "Batteries, BATT, Elec > Acc > Batteries",
        ("battery, AA batteries, power bank, coin cell battery", "Batterie, Akku, Powerbank", "pile, batterie externe",
         "pila, batería", "电池, 充电宝", "電池, モバイルバッテリー", "بطارية", "батарейка, аккумулятор"),
        "lithium, alkaline, mah, accumulator",
        "10000 mAh, pack of eight, leak resistant, shelf life ten years, level display, airline safe",
    ),
    _category(
        "Kitchenware", "Kitchen & Dining, KIT, Home > Kitchen",
        ("frying pan, mug, cutting board, water bottle, bowl", "Tasse, Bratpfanne, Schüssel", "poêle, tasse, assiette",
         "sartén, taza, cuchara", "平底锅, 马克杯, 碗", "フライパン, マグカップ", "مقلاة, كوب, صحن", "сковорода, кружка, тарелка"),
        "pan, cup, teapot, saucer, spoon, fork, cutlery, plate, dish, tray, jug, teacup, beaker, lunch box, tumbler, "
        "jar, bakeware, cake tin, cake stand, cake cases, cookie cutter, recipe box, knife",
        "dishwasher safe, holds 350 ml, non stick, beech handle, oven safe to 220 °C, stackable",
    ),
    _category(
        "Small Appliances", "Small Appliances, APPL, Home > Appliances",
        ("blender, toaster, kettle, coffee maker, vacuum", "Mixer, Wasserkocher, Staubsauger", "bouilloire, grille-pain",
         "licuadora, tostadora", "搅拌机, 电水壶, 吸尘器", "ミキサー, 掃除機", "خلاط, غلاية, مكنسة كهربائية", "блендер, чайник, пылесос"),
        "microwave, refrigerator, washer, dryer, dishwasher, espresso machine, humidifier, steam iron, heater, toaster oven, freezer, "
        "ice maker, vacuum cleaner, air purifier, mug warmer, hair dryer",
        "1.7 l tank, auto shut off, 900 W motor, pulse mode, removable crumb drawer, energy class A",
    ),
    _category(
        "Furniture", "Furniture, FURN, Home > Furniture",
        ("office chair, bookshelf, coffee table, stool", "Stuhl, Regal, Schreibtisch", "chaise, étagère", "silla, estantería",
         "椅子, 书架, 桌子", "椅子, 本棚, テーブル", "كرسي, طاولة", "стул, полка, стол"),
        "chair, table, desk, shelf, sofa, drawer, cabinet, wardrobe, sideboard, shelves, bench, drawer knob",
        "solid oak, seat height 45 cm, flat packed, carries 120 kg, rounded corners, tools included",
    ),
    _category(
        "Bedding", "Bed & Bath, BED, Home > Textiles",
        ("duvet cover, pillow, blanket, bath towel", "Bettwäsche, Kissen, Handtuch", "housse de couette, oreiller",
         "funda nórdica, almohada, manta", "被套, 枕头, 毛巾", "布団カバー, 枕, タオル", "وسادة, بطانية, منشفة",
         "подушка, одеяло, полотенце"),
        "sheet set, mattress, quilt, towel, cushion, comforter, duvet, bed sheet, hot water bottle cover",
        "300 thread count, machine wash at 40, hidden zip, 135 x 200 cm, feather free, soft after washing",
    ),
    _category(
        "Home Decor", "Home Decor, DECO, Home > Decor",
        ("scented candle, picture frame, wall clock, vase", "Kerze, Bilderrahmen, Wanduhr", "bougie, cadre photo, horloge",
         "vela, marco de fotos, jarrón", "蜡烛, 相框, 花瓶", "キャンドル, 花瓶, 掛け時計", "شمعة, إطار صور, مزهرية",
         "свеча, рамка, ваза"),
        "candle, clock, frame, ornament, garland, bunting, doormat, rug, mirror, wicker, tea light, t light, decoration, "
        "figurine, doilies, light holder, hook, coat rack, metal sign, door mat, wall art, trinket box, decorative, heart",
        "burns 40 hours, hand painted, glass front, silent movement, hangs both ways, 21 x 30 cm",
    ),
    _category(
        "Garden", "Garden & Outdoor, GRDN, Home > Garden",
        ("garden hose, plant pot, lawn mower, bird feeder", "Gartenschlauch, Rasenmäher, Blumentopf",
         "tuyau d'arrosage, tondeuse", "manguera, maceta, cortacésped", "花盆, 水管", "植木鉢, 園芸ホース", "خرطوم حديقة, أصيص",
         "садовый шланг, газонокосилка"),
        "garden, watering can, parasol, seeds, fertilizer, greenhouse, barbecue, planter, grill, birdhouse, lawn",
        "frost proof, drains at the base, 20 m reel, UV stable, for beds and balconies, cuts 32 cm wide",
    ),
    _category(
        "Tools", "Tools & Hardware, TOOL, Home > DIY",
        ("cordless drill, screwdriver set, hammer, wrench", "Bohrmaschine, Schraubendreher, Zange", "perceuse, tournevis",
         "taladro, destornillador", "电钻, 螺丝刀", "電動ドリル, ドライバーセット", "مثقاب, مفك براغي", "дрель, отвёртка, молоток"),
        "drill, screwdriver, saw, pliers, toolbox, tape measure, sander, ladder, socket set, padlock",
        "40 Nm torque, chrome vanadium, soft grip, comes in a box of 12, magnetic tips, keyless chuck",
    ),
    _category(
        "Cleaning", "Cleaning & Laundry, CLN, Home > Cleaning",
        ("dish soap, mop, laundry detergent, microfibre cloth", "Reiniger, Waschmittel, Wischmopp", "lessive, serpillière",
         "detergente, fregona", "洗衣液, 拖把", "洗剤, モップ", "منظف, ممسحة", "стиральный порошок, швабра"),
        "detergent, cleaner, broom, sponge, bleach, disinfectant, dustpan, trash bags, soap, laundry",
        "40 washes, no added dye, cuts grease, biodegradable, streak free, refill pouch",
    ),
    _category(
        "Beauty & Health", "Health & Beauty, HBA, Personal Care",
        ("shampoo, face cream, electric shaver, toothbrush", "Shampoo, Gesichtscreme, Zahnbürste", "shampooing, crème visage",
         "champú, crema facial", "洗发水, 面霜, 牙刷", "シャンプー, 歯ブラシ", "شامبو, كريم للوجه", "шампунь, зубная щётка"),
        "razor, trimmer, lotion, perfume, makeup, plasters, tissues, shaver, lipstick, vitamin tablets, massager, "
        "thermometer, sunscreen",
        "for dry skin, fragrance free, dermatologist tested, 250 ml, soft bristles, travel lid",
    ),
    _category(
        "Bags", "Bags & Luggage, BAG, Fashion > Bags",
        ("backpack, tote bag, suitcase, shopper", "Rucksack, Koffer, Tragetasche", "sac à dos, valise", "mochila, maleta",
         "背包, 行李箱", "リュック, スーツケース", "حقيبة ظهر, حقيبة", "рюкзак, чемодан, сумка"),
        "bag, purse, handbag, luggage, duffel, wallet, messenger bag, laptop case, laptop bag, laptop sleeve, lunch bag",
        "22 litres, padded straps, four wheels, inner pocket, rain cover, cabin size",
    ),
    _category(
        "Jewelry", "Jewellery, JWL, Fashion > Jewelry",
        ("necklace, bracelet, earrings, silver ring", "Halskette, Ohrringe", "collier, boucles d'oreilles",
         "collar de plata, pendientes", "项链, 耳环, 戒指", "ネックレス, ピアス", "قلادة, خاتم, أقراط", "ожерелье, серьги, кольцо"),
        "pendant, brooch, bangle, jewelry, jewellery, filigree, choker, earring, charm",
        "sterling 925, nickel free, 45 cm with extender, freshwater pearl, arrives in a pouch, adjustable clasp",
    ),
    _category(
        "Clothing", "Apparel, APRL, Fashion > Clothing",
        ("t-shirt, rain jacket, jeans, wool socks, hoodie", "Jacke, Hose, Pullover", "veste, pantalon, chaussettes",
         "chaqueta, camisa, calcetines", "夹克, 衬衫, 袜子", "ジャケット, 靴下", "قميص, سترة, جوارب", "куртка, рубашка, носки"),
        "shirt, jacket, dress, scarf, gloves, hat, shoes, socks, sweater, apron, slippers, trousers, umbrella",
        "organic cotton, regular fit, two side pockets, pre washed, reflective piping, sizes S to XXL",
    ),
    _category(
        "Toys", "Toys & Games, TOY, Kids > Toys",
        ("building blocks, jigsaw puzzle, plush toy, board game", "Spielzeug, Puzzle, Brettspiel", "jouet, peluche, poupée",
         "juguete, rompecabezas, muñeca", "玩具, 积木, 拼图", "おもちゃ, パズル", "لعبة, دمية", "игрушка, пазл, кукла"),
        "toy, doll, teddy, puzzle, playhouse, dinosaur, lego, rattle, skipping rope, spinning top, babushka, feltcraft",
        "ages 3 and up, 120 pieces, wipes clean, no batteries needed, rounded edges, two to six players",
    ),
    _category(
        "Stationery", "Office & Stationery, STAT, Office > Supplies",
        ("notebook, ballpoint pen, stapler, sticky notes", "Notizbuch, Kugelschreiber, Bleistift", "carnet, stylo, crayon",
         "cuaderno, bolígrafo, lápiz", "笔记本子, 圆珠笔, 铅笔", "ノート帳, ボールペン, 鉛筆", "دفتر, قلم حبر", "блокнот, ручка, карандаш"),
        "pen, pencil, pencils, eraser, envelope, binder, chalkboard, sketchbook, calendar, diary, sticker, stickers, "
        "tape dispenser, scissors, paper clips",
        "80 pages, dotted, quick drying ink, acid free, lies flat, box of 50",
    ),
    _category(
        "Gifts & Party", "Gifts & Party, PARTY, Seasonal > Party",
        ("gift wrap, birthday balloons, party hats, greeting card", "Geschenkpapier, Luftballons", "papier cadeau, ballons",
         "papel de regalo, globos", "礼品包装纸, 气球", "ラッピング用紙, 風船", "ورق هدايا, بالونات", "подарочная бумага, воздушные шары"),
        "gift, wrap, balloon, napkins, ribbon, ribbons, confetti, party, birthday, christmas, paper napkins, paper plates, "
        "gift bag, easter",
        "set of 20, foil print, fits 4 boxes, recyclable, matching tags, blank inside",
    ),
    _category(
        "Pet Supplies", "Pet Supplies, PET, Home > Pets",
        ("dog leash, cat litter, dog food, pet bed", "Hundeleine, Katzenstreu, Hundefutter", "laisse pour chien, litière",
         "correa para perro, arena para gatos", "狗绳, 猫砂", "犬用リード, 猫砂トイレ", "مقود كلب, رمل قطط", "поводок, корм для собак"),
        "pet, leash, dog collar, cat toy, dog toy, aquarium, kibble, pets, dog, puppy",
        "for dogs to 25 kg, clumps fast, padded handle, grain free, washable liner, reflective thread",
    ),
    _category(
        "Beverages", "Drinks, BEV, Grocery > Drinks",
        ("orange juice, ground coffee, green tea, sparkling lemonade", "Orangensaft, Kaffee, Grüntee",
         "jus d'orange, café moulu, thé vert", "zumo de naranja, café molido", "橙汁, 咖啡, 绿茶", "オレンジジュース, コーヒー, 緑茶",
         "عصير برتقال, قهوة, شاي", "апельсиновый сок, кофе, чай"),
        "juice, tea, coffee, soda, drink, beverage, lemonade, smoothie, cola, wine, beer, nectar, carbonated, espresso, juices",
        "no added sugar, 12 x 330 ml, medium roast, best served cold, resealable, single origin",
    ),
    _category(
        "Snacks & Sweets", "Snacks & Candy, SNK, Grocery > Snacks",
        ("potato chips, dark chocolate, oat cookies, gummy bears", "Kekse, Schokolade, Gummibärchen",
         "biscuits, chocolat, bonbons", "galletas, caramelos", "饼干, 巧克力, 薯片", "チョコレート, クッキー, お菓子",
         "بسكويت, شوكولاتة, حلوى", "печенье, шоколад, конфеты"),
        "chips, chocolate, cookie, candy, popcorn, pretzels, peanuts, almonds, cashews, granola, cocoa, crackers, snack, "
        "brownie, marshmallow, caramel, gum, cookies, raisins, cake, muffin",
        "lightly salted, 70 % solids, contains nuts, share pack 300 g, baked not fried, gluten free",
    ),
    _category(
        "Pantry Foods", "Grocery Pantry, PAN, Grocery > Pantry",
        ("basmati rice, pasta sauce, olive oil, canned beans", "Nudeln, Olivenöl, Mehl", "huile d'olive, pâtes, farine",
         "aceite de oliva, arroz, harina", "大米, 橄榄油, 面粉", "パスタソース, オリーブオイル, 小麦粉", "أرز, زيت زيتون, دقيق",
         "рис, оливковое масло, мука"),
        "rice, pasta, sauce, flour, beans, vinegar, tomato, tomatoes, oil, wheat, spices, noodles, soup, honey, jam, oats, "
        "mustard, ketchup, chicken, beef, pork, tuna, garlic, pickles, olives, bread, seasoning, cucumbers, corn, peppers",
        "cold pressed, 500 g, cooks in 9 minutes, no preservatives, vegan, product of a family mill",
    ),
    _category(
        "Dairy & Frozen", "Dairy & Frozen, DRY, Grocery > Chilled",
        ("cheddar cheese, Greek yogurt, ice cream, frozen pizza", "Käse, Joghurt, Speiseeis", "fromage, yaourt, glace vanille",
         "queso, yogur, helado", "奶酪, 酸奶, 冰淇淋", "チーズ, ヨーグルト, アイスクリーム", "جبن, زبادي, مثلجات", "сыр, йогурт, мороженое"),
        "milk, cheese, yogurt, butter, cream cheese, mozzarella, parmesan, yoghurt, frozen, cheddar, whey, sour cream, skim milk",
        "keep refrigerated, 9 months aged, live cultures, 450 g, made with whole cream, four portions",
    ),
)  # fmt: skip

CATEGORIES: tuple[str, ...] = tuple(category.name for category in TAXONOMY)
"""The forty allowed values, in a fixed order."""

_BY_SOURCE = {name.casefold(): category.name for category in TAXONOMY for name in category.source_names}


def category_of_source(source_category: str) -> str | None:
    """Return the category that a supplier's own category names, ``None`` when it names none.

    This is what an aggregate check compares the answers with: it is rough and it never
    reaches the model.
    """
    return _BY_SOURCE.get(source_category.strip().casefold())
