"""The small world that prompts and grammar draw from: names, heroes, places, things, foods, feelings, morals."""

from __future__ import annotations

import random


def _w(text: str) -> list[str]:
    return [" ".join(word.split()) for word in text.split(",") if word.strip()]


GIRLS = _w(
    """Lily, Mia, Anna, Emma, Rosie, Zoe, Nora, Ella, Ruby, Daisy, Molly, Sara, Lucy, Tilly, Ivy, Poppy, Bella, Hana,
    Amy, Clara, Nina, Maya, Olive, Hazel, Penny, Suki, Ada, Kitty, Luna, Flora, Greta, Ines, Jane, Kate, Leela,
    Maria, Pearl"""
)
BOYS = _w(
    """Tom, Max, Ben, Sam, Leo, Finn, Jack, Tim, Oscar, Milo, Theo, Noah, Hugo, Eli, Otto, Felix, Toby, Luca, Ravi,
    Kofi, Dan, Henry, Billy, Charlie, Jamie, Peter, Omar, Pablo, Nico, Will, George, Arlo, Bruno, Jim, Ken, Ned,
    Robin"""
)
ANIMAL_NAMES = _w(
    """Pip, Dot, Bibi, Fuzzy, Tiki, Momo, Bobo, Pepper, Nibbles, Sunny, Button, Biscuit, Coco, Mimi, Bubbles, Patch,
    Whiskers, Hopper, Snowy, Ginger, Muffin, Pebble, Twig, Acorn, Clover, Honey, Maple, Pickle, Rusty, Spot, Teddy,
    Waffles, Ziggy, Lulu, Kiki, Fluff, Benny, Dizzy, Echo, Fern, Gus, Hoot, Jojo, Kip, Lolo, Nutty, Olly, Peanut,
    Quill"""
)
ANIMALS = _w(
    """fox, rabbit, bear, mouse, squirrel, hedgehog, duck, frog, turtle, cat, puppy, kitten, owl, lamb, pig, goat,
    pony, bird, penguin, elephant, lion, monkey, beaver, otter, badger, deer, mole, bee, snail, ladybug, hen,
    cow, donkey, panda, tiger, giraffe, wolf, seal, crab, butterfly, chipmunk, goose, koala, sparrow, hippo,
    zebra, whale, dolphin, parrot, spider, ant, worm, horse, sheep, camel, kangaroo, crocodile, swan, raccoon,
    moose, dog, lizard, octopus, fish, chicken, rooster, hamster, bat, caterpillar, grasshopper, raven, rhino,
    leopard, gorilla, starfish, walrus, toad, stork, woodpecker"""
)
OTHERS = _w(
    """robot, dragon, fairy, snowman, toy soldier, little train, cloud, star, giant, elf, kite, teddy bear, doll,
    dinosaur, unicorn, princess, prince, king, queen, knight, wizard, mermaid, pirate, witch, monster, ghost, gnome,
    farmer, baker, gardener, painter, sailor, clown, troll, little car, little boat, tree, raindrop, snowflake,
    scarecrow, spaceship, alien"""
)
SHE = {"fairy", "princess", "queen", "mermaid", "witch", "doll"}
HE = {"prince", "king", "wizard", "toy soldier", "snowman"}
TRAITS = _w(
    """little, small, brave, kind, shy, curious, happy, clever, playful, gentle, quiet, cheerful, silly, friendly,
    tiny, young, funny, careful, busy, lonely, sleepy, merry, good, proud, hungry"""
)
COLOURS = _w("red, blue, green, yellow, pink, purple, orange, white, golden, silver, brown, black")
THINGS = _w(
    """ball, kite, hat, scarf, drum, bell, book, boat, doll, toy car, blanket, basket, ring, cup, coat, whistle,
    umbrella, pencil, button, key, balloon, lantern, toy train, shell, box, flute, bucket, teddy bear, mitten, boot,
    ribbon, wagon, puzzle, paintbrush, spoon, top, crown, feather, map, marble, clock, swing, sled, jump rope,
    backpack"""
)
FOODS = _w(
    """apple, cookie, cake, pie, carrot, pear, sandwich, muffin, pancake, peach, bun, plum, berry tart, jar of honey,
    bowl of soup, loaf of bread, piece of cheese, bag of nuts, banana, slice of melon, ice cream"""
)
HOMES = _w(
    """a small house, a cozy cottage, a little farm, a hollow tree, a village by the river, a quiet town, a tall house
    on a hill, a hut near the woods, a warm burrow, a house by the sea, a big old barn, a tiny house with a red door"""
)
# with the preposition that goes with them
PLACES = _w(
    """in the forest, in the garden, in the park, in the meadow, on the beach, on the hill, by the river, by the pond,
    on the farm, in the orchard, in the woods, in the field, at the market, in the village square, by the old mill,
    by the lake, in the barn, at the playground, near the bridge, in the valley, by the stream, on the island"""
)
HIDING = _w(
    """under a bush, behind a big rock, in the tall grass, under the bed, inside a hollow log, behind the door, up in a
    tree, under the old bridge, next to the pond, in a pile of leaves, behind the barn, under a wide green leaf"""
)
FEARS = _w(
    """the dark, the thunder, deep water, high places, loud noises, big dogs, the wind at night, the first day of
    school, the big slide, shadows on the wall, talking to others, swimming, flying, going down the hill"""
)
BUILDS = _w(
    """a tree house, a little boat, a kite, a bridge, a snow fort, a sandcastle, a bird house, a cart, a raft, a swing,
    a tower of blocks, a tent, a wooden sled, a bench, a windmill"""
)
PLANTS = _w(
    """sunflower, pumpkin, apple tree, tomato plant, rose, bean plant, strawberry plant, cherry tree, daisy, tulip,
    carrot, pear tree, watermelon"""
)
GAMES = _w(
    """hide and seek, tag, catch, pirates, marbles, follow the leader, hopscotch, ball games, leapfrog, cards, knights
    and dragons, treasure hunts, the guessing game, blind man's buff"""
)
GIFTS = _w(
    """a card with a big heart, a necklace of shells, a crown of flowers, a warm scarf, a painted stone, a wooden boat,
    a basket of berries, a little song, a picture of the two of them, a paper star, a chocolate cake, a jar of jam"""
)
THEMES = _w(
    """sharing, friendship, telling the truth, being brave, helping others, never giving up, being patient, a lost toy,
    a rainy day, a birthday, the first snow, a picnic, a new friend, a big storm, a magic stone, going to bed, a
    garden, a treasure map, learning to swim, a trip to the sea, a kind king, a hungry bear, a lost puppy, baking a
    cake, a race, a secret door, the moon, a rainbow, a song, a dream, a surprise, saying sorry, a broken cup,
    planting a seed, a magic hat, a walk in the woods, a boat trip, a noisy night, a tiny egg, a grumpy neighbor,
    cleaning up"""
)
FEELINGS = _w("happy, proud, glad, warm inside, very happy, full of joy, safe, calm, thankful, cheerful")
SAD = _w("sad, worried, so sad, upset, lonely, unhappy")

_FIRST = _w("b, c, d, f, g, h, j, k, l, m, n, p, r, s, t, v, w, z, br, cl, dr, fl, gr, kr, pl, sn, st, tr, sh, ch")
_MIDDLE = _w("a, e, i, o, u, ee, oo, ai")
_LAST = [
    "",
    "",
    "",
    *_w("l, m, n, r, s, t, x, ck, ll, nn, bo, ba, by, ka, la, li, lo, ma, mi, mo, na, nie, no, ra, ri"),
]


def made_up_name(rng: random.Random) -> str:
    """A name that no list holds, so that names must be read from the story's start instead of known by heart."""
    middle = rng.choice(_MIDDLE) + (rng.choice(_FIRST[:18]) + rng.choice(_MIDDLE[:5]) if rng.random() < 0.4 else "")
    return (rng.choice(_FIRST) + middle + rng.choice(_LAST)).capitalize()
